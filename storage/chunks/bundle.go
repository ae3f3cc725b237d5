package chunks

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/promkeep/promkeep/storage/codec"
)

// EncodingBundle marks a row of a table that holds the packed rows of several series, see BUNDLE.md.
const EncodingBundle codec.Encoding = 16

const (
	bundleVersion = 1
	// bundleBytes is how large a bundle gets: large enough that what a table's row costs (about 100 bytes with its index entry)
	// does not matter, small enough to be read whole for the sake of one series.
	bundleBytes = 32 << 10
	// metricShift: the bits of a series ID above these are its metric. A bundle holds series of one metric.
	metricShift = 37
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bundle gathers packed rows of one metric, in order of series IDs, on their way to a table.
type bundle struct {
	rows       []Row
	bytes      int
	start, end int64
	version    int32
	n          int32
}

// fits tells whether r can be added: rows come in order of series IDs, and a bundle holds one metric, bounded bytes and samples.
func (b *bundle) fits(r Row) bool {
	if len(b.rows) == 0 {
		return true
	}
	last := b.rows[len(b.rows)-1].SeriesID
	return r.SeriesID >= last && r.SeriesID>>metricShift == last>>metricShift && b.bytes+len(r.Data) <= bundleBytes && r.N <= math.MaxInt32-b.n
}

func (b *bundle) add(r Row) {
	if len(b.rows) == 0 {
		b.start, b.end, b.version = r.Start, r.End, r.Version
	}
	b.rows = append(b.rows, r)
	b.bytes += len(r.Data)
	b.start, b.end, b.version = min(b.start, r.Start), max(b.end, r.End), max(b.version, r.Version)
	b.n += r.N
}

func (b *bundle) reset() {
	clear(b.rows)
	b.rows, b.bytes, b.n = b.rows[:0], 0, 0
}

// appendTo appends the bytes of the bundle.
func (b *bundle) appendTo(out []byte) []byte {
	var times [][]byte
	place := map[string]int{}
	for _, r := range b.rows {
		if r.Times == nil {
			continue
		}
		if _, ok := place[string(r.Times.row)]; !ok {
			place[string(r.Times.row)] = len(times)
			times = append(times, r.Times.row)
		}
	}
	from := len(out)
	out = append(out, bundleVersion)
	out = binary.AppendUvarint(out, uint64(len(times)))
	for _, t := range times {
		out = binary.AppendUvarint(out, uint64(len(t)))
	}
	out = binary.AppendUvarint(out, uint64(len(b.rows)))
	id, start, span, n := b.rows[0].SeriesID, b.start, int64(0), int32(0)
	for _, r := range b.rows {
		out = binary.AppendUvarint(out, r.SeriesID-id)
		out = binary.AppendVarint(out, r.Start-start)
		out = binary.AppendVarint(out, r.End-r.Start-span)
		out = binary.AppendVarint(out, int64(r.N-n))
		out = binary.AppendUvarint(out, uint64(b.version-r.Version))
		out = binary.AppendUvarint(out, uint64(r.Encoding))
		shared := 0
		if r.Times != nil {
			shared = 1 + place[string(r.Times.row)]
		}
		out = binary.AppendUvarint(out, uint64(shared))
		out = binary.AppendUvarint(out, uint64(len(r.Data)))
		id, start, span, n = r.SeriesID, r.Start, r.End-r.Start, r.N
	}
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out[from:], castagnoli))
	for _, t := range times {
		out = append(out, t...)
	}
	for _, r := range b.rows {
		out = append(out, r.Data...)
	}
	return out
}

// unbundle calls fn for each packed row of a row of a table, in order of series IDs. A row that is no bundle is its own only one.
// Their Data and Times lie in r.Data. The error, which wraps codec.ErrCorrupt, is about the bundle as a whole.
func unbundle(r Row, fn func(Row) error) error {
	if r.Encoding != EncodingBundle {
		return fn(r)
	}
	rows, err := r.members()
	if err != nil {
		return &RowError{r, err}
	}
	for _, m := range rows {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// members reads the directory of a bundle.
func (r Row) members() ([]Row, error) {
	d := directory{b: r.Data}
	if len(r.Data) == 0 || r.Data[0] != bundleVersion {
		return nil, fmt.Errorf("%w: not a bundle of version %d", codec.ErrCorrupt, bundleVersion)
	}
	d.at = 1
	times := make([]*Times, d.count())
	sizes := make([]int, len(times))
	for i := range sizes {
		sizes[i] = d.length()
	}
	rows := make([]Row, d.count())
	lengths := make([]int, len(rows))
	id, start, span, n := r.SeriesID, r.Start, int64(0), int64(0)
	for i := range rows {
		id += d.uvarint()
		start += d.varint()
		span += d.varint()
		n += d.varint()
		rows[i] = Row{SeriesID: id, Start: start, End: start + span, N: int32(n), Version: r.Version - int32(d.uvarint()), Encoding: codec.Encoding(d.uvarint())}
		if shared := d.uvarint(); shared > uint64(len(times)) {
			d.bad = true
		} else if shared > 0 {
			if times[shared-1] == nil {
				times[shared-1] = new(Times)
			}
			rows[i].Times = times[shared-1]
		}
		lengths[i] = d.length()
	}
	if d.bad || len(r.Data)-d.at < 4 || binary.BigEndian.Uint32(r.Data[d.at:]) != crc32.Checksum(r.Data[:d.at], castagnoli) {
		return nil, fmt.Errorf("%w: the directory of the bundle is damaged", codec.ErrCorrupt)
	}
	rest := r.Data[d.at+4:]
	for i, size := range sizes {
		if size > len(rest) {
			return nil, fmt.Errorf("%w: the bundle is cut off", codec.ErrCorrupt)
		}
		if times[i] != nil {
			times[i].row = rest[:size:size]
		}
		rest = rest[size:]
	}
	for i, size := range lengths {
		if size > len(rest) {
			return nil, fmt.Errorf("%w: the bundle is cut off", codec.ErrCorrupt)
		}
		rows[i].Data = rest[:size:size]
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the bundle", codec.ErrCorrupt, len(rest))
	}
	return rows, nil
}

// directory reads numbers; what is out of bounds makes it bad.
type directory struct {
	b   []byte
	at  int
	bad bool
}

func (d *directory) uvarint() uint64 {
	v, n := binary.Uvarint(d.b[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

func (d *directory) varint() int64 {
	v, n := binary.Varint(d.b[d.at:])
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.at += n
	return v
}

// count reads a number of things that take a byte or more each.
func (d *directory) count() int {
	v := d.uvarint()
	if v > uint64(len(d.b)-d.at) {
		d.bad = true
		return 0
	}
	return int(v)
}

// length reads a number of bytes.
func (d *directory) length() int {
	v := d.uvarint()
	if v > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(v)
}
