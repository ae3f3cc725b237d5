// Package wire reads remote-write requests straight from their protobuf bytes, in one pass and without allocating
// for a series or a sample: remote write 1.0 (prometheus.WriteRequest, [V1]) and 2.0 (io.prometheus.write.v2.Request, [V2]).
//
// A decoder is a cursor. Both have the same methods and are used the same way:
//
//	if err := d.Reset(request); err != nil { … }
//	for d.Next() { // one time series after the other
//		if d.LabelCount() > limit || d.SeriesErr() != nil { …; continue }
//		if !known(d.Key()) { ls, err := d.Labels(buf[:0], limit); … }
//		for d.NextSample() { s := d.Sample(); … }
//		for d.NextHistogram() { h := d.Histogram(); … }
//		for d.NextExemplar() { e := d.Exemplar(); … }
//	}
//	for d.NextMetadata() { … } // 1.0 keeps metadata beside the series; 2.0 within, see V2.Metadata
//	if err := d.Err(); err != nil { … } // nothing of a request that is broken anywhere may be used
//
// The point of it is [Key]: a series that was seen before is recognised by a hash of its label bytes, and its labels
// are not parsed again. What a decoder yields points into the request's bytes and holds until the next call that
// moves it.
//
// # What is accepted
//
// Everything protobuf allows: fields in any order, labels scattered among samples, packed and unpacked numbers, the last of
// a repeated scalar, unknown fields of every wire type. Refused are groups (no version of the protocol ever had
// one), varints of more than 64 bits, known fields of the wrong wire type, and lengths past the end of their message.
//
// The package must not know HTTP, tenants, storage, or which labels and samples are good.
package wire
