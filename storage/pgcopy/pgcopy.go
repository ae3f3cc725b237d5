// Package pgcopy writes rows in the binary format of PostgreSQL's COPY (its documentation of COPY, "Binary Format").
//
// The package must not know what the rows are.
package pgcopy

import "encoding/binary"

// Header begins a stream: no flags, no extension.
const Header = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Trailer ends a stream.
const Trailer = "\xff\xff"

// int4OID is the type of the elements of int4[].
const int4OID = 23

// AppendRow begins a row of a number of fields.
func AppendRow(b []byte, fields int) []byte { return binary.BigEndian.AppendUint16(b, uint16(fields)) }

// AppendNull appends a field that is NULL.
func AppendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 1<<32-1) }

// AppendBool appends a field of type bool.
func AppendBool(b []byte, v bool) []byte {
	b = binary.BigEndian.AppendUint32(b, 1)
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendInt2 appends a field of type int2.
func AppendInt2(b []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), uint16(v))
}

// AppendInt4 appends a field of type int4.
func AppendInt4(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), uint32(v))
}

// AppendInt8 appends a field of type int8.
func AppendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
}

// AppendBytes appends a field of type bytea, which fill appends to its argument.
func AppendBytes(b []byte, fill func([]byte) []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, 0)
	from := len(b)
	b = fill(b)
	binary.BigEndian.PutUint32(b[from-4:], uint32(len(b)-from))
	return b
}

// AppendInt4s appends a field of type int4[].
func AppendInt4s(b []byte, all []int32) []byte {
	const header, each = 12, 8
	dimensions := min(1, len(all))
	b = binary.BigEndian.AppendUint32(b, uint32(header+dimensions*8+each*len(all)))
	b = binary.BigEndian.AppendUint32(b, uint32(dimensions))
	b = binary.BigEndian.AppendUint32(b, 0) // no NULL
	b = binary.BigEndian.AppendUint32(b, int4OID)
	if dimensions > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(all)))
		b = binary.BigEndian.AppendUint32(b, 1) // the first index
	}
	for _, v := range all {
		b = binary.BigEndian.AppendUint64(b, 4<<32|uint64(uint32(v)))
	}
	return b
}
