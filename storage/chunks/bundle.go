package chunks

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/promkeep/promkeep/storage/codec"
)

// EncodingBundle marks a row of a table that holds the packed rows of several series, see BUNDLE.md.
const EncodingBundle codec.Encoding = 16

const (
	bundleVersion = 1
	// bundleReferring is the version of bundles of which some timestamps are kept in the table times.
	bundleReferring = 2
	// bundleBytes is how large the packed rows of a bundle get, bundleLeast how large they are at least where more follow: large enough that
	// what a table's row costs (about 100 bytes with its index entry) does not matter, small enough to be read whole for the sake of one series.
	// The more there is between them, the fuller is the last piece.
	bundleBytes = 48 << 10
	bundleLeast = 16 << 10
	// toastChunk is how PostgreSQL cuts what lies out of line (TOAST_MAX_CHUNK_SIZE with pages of 8 KiB). Four of them fill a page, and beside a
	// shorter one most of the rest of the page stays empty.
	toastChunk = 1996
	// metricShift: the bits of a series ID above these are its metric. A bundle holds series of one metric.
	metricShift = 37
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bundle gathers packed rows of one metric, in order of series IDs, on their way to a table.
type bundle struct {
	rows  []Row
	bytes int // of the packed rows
	n     int32

	refer  bool           // timestamps are kept in the table times, if they are many
	times  []*Times       // that rows share, in order of the first that does
	places map[string]int // in times, counted from 1
	shared []int          // by row: the place of its times, or 0
	sizes  []int          // by row: about the bytes of a bundle that ends with it
}

// fits tells whether r can be added: rows come in order of series IDs, and a bundle holds one metric, bounded bytes and samples.
func (b *bundle) fits(r Row) bool {
	return len(b.rows) == 0 || b.follows(r) && b.bytes+len(r.Data) <= bundleBytes && r.N <= math.MaxInt32-b.n
}

// follows tells whether r may stand behind the last row, were there room.
func (b *bundle) follows(r Row) bool {
	last := b.rows[len(b.rows)-1].SeriesID
	return r.SeriesID >= last && r.SeriesID>>metricShift == last>>metricShift
}

func (b *bundle) add(r Row) {
	size := 1 + 1 + 2 + 4 + binary.MaxVarintLen32 // version, times, members, checksum, the first start
	previous := Row{SeriesID: r.SeriesID, Start: r.Start, End: r.Start, Version: r.Version}
	if i := len(b.rows); i > 0 {
		size, previous = b.sizes[i-1], b.rows[i-1]
	}
	shared := 0
	if r.Times != nil {
		if r.Times == previous.Times {
			shared = b.shared[len(b.shared)-1]
		} else if data, referred := r.Times.inBundle(b.refer); b.places[string(data)] > 0 {
			shared = b.places[string(data)]
		} else {
			if b.places == nil {
				b.places = map[string]int{}
			}
			b.times = append(b.times, r.Times)
			shared = len(b.times)
			b.places[string(data)] = shared
			size += 1 + len(data)
			if !referred {
				size += codec.UvarintLen(uint64(len(data))) - 1
			}
		}
	}
	size += codec.UvarintLen(r.SeriesID-previous.SeriesID) + lenVarint(r.Start-previous.Start) + lenVarint(r.End-r.Start-(previous.End-previous.Start)) +
		lenVarint(int64(r.N-previous.N)) + codec.UvarintLen(uint64(r.Encoding)) + codec.UvarintLen(uint64(shared)) + codec.UvarintLen(uint64(len(r.Data))) + len(r.Data)
	if r.Version == previous.Version { // less the highest, which is not known yet
		size++
	} else {
		size += 2
	}
	b.rows, b.shared, b.sizes = append(b.rows, r), append(b.shared, shared), append(b.sizes, size)
	b.bytes += len(r.Data)
	b.n += r.N
}

// cut returns how many of the rows to make a bundle of where more follow: so many that the least part of it is what stays empty of the last piece
// that PostgreSQL cuts it into, and what the table's row costs.
func (b *bundle) cut() int {
	const row = 120 // bytes of a table's row, with its index entry
	best, waste := len(b.rows), 1.0
	bytes := 0
	for i, r := range b.rows {
		bytes += len(r.Data)
		if bytes < bundleLeast {
			continue
		}
		if w := float64((toastChunk-b.sizes[i]%toastChunk)%toastChunk+row) / float64(b.sizes[i]); w <= waste {
			best, waste = i+1, w
		}
	}
	return best
}

// drop forgets the first k rows.
func (b *bundle) drop(k int) {
	rest := slices.Clone(b.rows[k:])
	clear(b.rows)
	clear(b.times)
	clear(b.places)
	b.rows, b.times, b.shared, b.sizes, b.bytes, b.n = b.rows[:0], b.times[:0], b.shared[:0], b.sizes[:0], 0, 0
	for _, r := range rest {
		b.add(r)
	}
}

// head is the table's row of a bundle of the first k rows, without its data.
func (b *bundle) head(k int) Row {
	out := Row{SeriesID: b.rows[0].SeriesID, Start: b.rows[0].Start, End: b.rows[0].End, Version: b.rows[0].Version, Encoding: EncodingBundle}
	for _, r := range b.rows[:k] {
		out.Start, out.End, out.Version = min(out.Start, r.Start), max(out.End, r.End), max(out.Version, r.Version)
		out.N += r.N
	}
	return out
}

// appendTo appends the bytes of a bundle of the first k rows.
func (b *bundle) appendTo(out []byte, k int) []byte {
	head := b.head(k)
	times := b.times[:slices.Max(b.shared[:k])]
	from := len(out)
	out = append(out, bundleVersion)
	out = binary.AppendUvarint(out, uint64(len(times)))
	for _, t := range times {
		data, referred := t.inBundle(b.refer)
		if referred {
			out[from] = bundleReferring
			out = append(out, 0)
		} else {
			out = binary.AppendUvarint(out, uint64(len(data)))
		}
	}
	out = binary.AppendUvarint(out, uint64(k))
	id, start, span, n := head.SeriesID, head.Start, int64(0), int32(0)
	for i, r := range b.rows[:k] {
		out = binary.AppendUvarint(out, r.SeriesID-id)
		out = binary.AppendVarint(out, r.Start-start)
		out = binary.AppendVarint(out, r.End-r.Start-span)
		out = binary.AppendVarint(out, int64(r.N-n))
		out = binary.AppendUvarint(out, uint64(head.Version-r.Version))
		out = binary.AppendUvarint(out, uint64(r.Encoding))
		out = binary.AppendUvarint(out, uint64(b.shared[i]))
		out = binary.AppendUvarint(out, uint64(len(r.Data)))
		id, start, span, n = r.SeriesID, r.Start, r.End-r.Start, r.N
	}
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out[from:], castagnoli))
	for _, t := range times {
		data, _ := t.inBundle(b.refer)
		out = append(out, data...)
	}
	for _, r := range b.rows[:k] {
		out = append(out, r.Data...)
	}
	return out
}

// lenUvarint and lenVarint are how many bytes encoding/binary takes.
func lenVarint(v int64) int { return codec.UvarintLen(uint64(v<<1) ^ uint64(v>>63)) }

// unbundle calls fn for each packed row of a row of a table, in order of series IDs. A row that is no bundle is its own only one.
// Their Data and Times lie in r.Data, but for Times that are kept in the table times, which have no row yet. The error, which wraps codec.ErrCorrupt, is about the bundle as a whole.
func unbundle(r Row, fn func(Row) error) error {
	var m members
	rows, err := m.of(r)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// members takes bundles apart, one after another in the same memory.
type members struct {
	rows           []Row
	times          []*Times
	sizes, lengths []int
	referred       []bool
}

// of returns what unbundle calls its function for, until it is called again. Their Data lies in r.Data.
func (m *members) of(r Row) ([]Row, error) {
	if r.Encoding != EncodingBundle {
		m.rows = append(m.rows[:0], r)
		return m.rows, nil
	}
	rows, err := m.open(r)
	if err != nil {
		return nil, &RowError{r, err}
	}
	return rows, nil
}

// zeros returns n zero values in the memory of s, if there is room.
func zeros[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// open reads the directory of a bundle.
func (m *members) open(r Row) ([]Row, error) {
	d := directory{b: r.Data}
	if len(r.Data) == 0 || r.Data[0] != bundleVersion && r.Data[0] != bundleReferring {
		return nil, fmt.Errorf("%w: not a bundle of version %d or %d", codec.ErrCorrupt, bundleVersion, bundleReferring)
	}
	d.at = 1
	m.times = zeros(m.times, d.count())
	m.sizes, m.referred = zeros(m.sizes, len(m.times)), zeros(m.referred, len(m.times))
	times, sizes, referred := m.times, m.sizes, m.referred
	for i := range sizes {
		if sizes[i] = d.length(); sizes[i] == 0 && r.Data[0] == bundleReferring {
			sizes[i], referred[i] = digestLen, true
		}
	}
	m.rows = zeros(m.rows, d.count())
	m.lengths = zeros(m.lengths, len(m.rows))
	rows, lengths := m.rows, m.lengths
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
		switch {
		case times[i] == nil:
		case referred[i]:
			times[i].day, times[i].digest = floor(r.Start, Day), digest(rest)
		default:
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

// single tells whether a bundle can stand in the long-term store as well, has one packed row for each of its series, and pass is true of all
// their IDs. It says how many there are. Of a damaged bundle it is false.
func single(r Row, pass func(id uint64) bool) (members int32, ok bool) {
	d := directory{b: r.Data, at: 1}
	if len(r.Data) == 0 || r.Data[0] != bundleVersion {
		return 0, false
	}
	for range d.count() {
		if d.length() >= referLeast { // it would be kept in the table times
			return 0, false
		}
	}
	members = int32(d.count())
	id := r.SeriesID
	for i := range members {
		more := d.uvarint()
		id += more
		if more == 0 && i > 0 || !pass(id) {
			return 0, false
		}
		for range 7 { // start, span, n, version, encoding, times, length
			d.uvarint()
		}
	}
	if d.bad || len(r.Data)-d.at < 4 || binary.BigEndian.Uint32(r.Data[d.at:]) != crc32.Checksum(r.Data[:d.at], castagnoli) {
		return 0, false
	}
	return members, true
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
