package head

import (
	"encoding/binary"

	"github.com/promkeep/promkeep/storage/codec"
)

// Row is a packed row that was flushed and is kept as a cache. It is not changed once made.
type Row struct {
	Start, End int64 // ms, of the first and the last sample
	N          int32 // samples
	Version    int32 // of the flush
	Encoding   codec.Encoding
	Data       []byte
}

// rows are the cached rows of a series, one after another in one piece of memory: a fresh row has some forty bytes of data, and millions
// of them would keep the allocator and the garbage collector busy. What is within the length is not changed once made, so that what reads
// it needs no lock.
type rows []byte

// size is the bytes of the row among others.
func (r *Row) size() int {
	return 8 + codec.UvarintLen(uint64(r.End-r.Start)) + codec.UvarintLen(uint64(uint32(r.N))) + codec.UvarintLen(uint64(uint32(r.Version))) + 1 +
		codec.UvarintLen(uint64(len(r.Data))) + len(r.Data)
}

// bytes is about the memory that the row takes in a series, with its part of the room that grow leaves, and of what the allocator adds.
func (r *Row) bytes() int64 {
	n := int64(r.size())
	return n + n/8
}

// first returns the first row and what follows it. Its Data lies in rs.
func (rs rows) first() (r Row, rest rows) {
	r.Start = int64(binary.LittleEndian.Uint64(rs))
	at := 8
	number := func() uint64 {
		x, n := binary.Uvarint(rs[at:])
		at += n
		return x
	}
	r.End = r.Start + int64(number())
	r.N, r.Version = int32(number()), int32(number())
	r.Encoding = codec.Encoding(rs[at])
	at++
	n := int(number())
	r.Data = rs[at : at+n : at+n]
	return r, rs[at+n:]
}

// count is how many rows have a part in [mint, maxt], in ms.
func (rs rows) count(mint, maxt int64) (n int) {
	for rest := rs; len(rest) > 0; {
		var r Row
		if r, rest = rest.first(); r.Start <= maxt && r.End >= mint {
			n++
		}
	}
	return n
}

// grow makes room for so many bytes more. There are a dozen rows, as a rule, of which each flush adds one, so room for twice as many
// would be a waste.
func (rs rows) grow(n int) rows {
	if n += len(rs); n > cap(rs) {
		rs = append(make(rows, 0, n+n/8), rs...)
	}
	return rs
}

// with returns rs with copies of more rows.
func (rs rows) with(more ...Row) rows {
	n := 0
	for i := range more {
		n += more[i].size()
	}
	rs = rs.grow(n)
	for _, r := range more {
		rs = binary.LittleEndian.AppendUint64(rs, uint64(r.Start))
		rs = binary.AppendUvarint(rs, uint64(r.End-r.Start))
		rs = binary.AppendUvarint(rs, uint64(uint32(r.N)))
		rs = binary.AppendUvarint(rs, uint64(uint32(r.Version)))
		rs = append(rs, byte(r.Encoding))
		rs = binary.AppendUvarint(rs, uint64(len(r.Data)))
		rs = append(rs, r.Data...)
	}
	return rs
}

// without returns the rows that drop does not take, in memory of their own if it takes any, and the memory that those took.
func (rs rows) without(drop func(Row) bool) (kept rows, freed int64) {
	left := 0
	for rest := rs; len(rest) > 0; {
		var r Row
		if r, rest = rest.first(); drop(r) {
			freed += r.bytes()
		} else {
			left += r.size()
		}
	}
	if freed == 0 {
		return rs, 0
	}
	if left == 0 {
		return nil, freed
	}
	kept = make(rows, 0, left+left/8) // the next flush adds as much again
	for rest := rs; len(rest) > 0; {
		at := rest
		var r Row
		if r, rest = rest.first(); !drop(r) {
			kept = append(kept, at[:r.size()]...)
		}
	}
	return kept, freed
}

// all returns the rows. Their Data lies in rs.
func (rs rows) all() (out []Row) {
	for rest := rs; len(rest) > 0; {
		var r Row
		r, rest = rest.first()
		out = append(out, r)
	}
	return out
}
