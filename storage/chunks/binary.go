package chunks

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/pgcopy"
)

// arena gives many small byte slices out of few large ones.
type arena struct{ free []byte }

func (a *arena) copy(b []byte) []byte {
	const slab = 64 << 10
	if len(b) > slab/4 {
		return append([]byte(nil), b...)
	}
	if len(b) > len(a.free) {
		a.free = make([]byte, slab)
	}
	out := a.free[:len(b):len(b)]
	a.free = a.free[len(b):]
	copy(out, b)
	return out
}

// decodeRow reads (series_id, start, "end", n, version, encoding, data, above) in PostgreSQL's binary format. Data is v's.
func decodeRow(v [][]byte) (r Row, above int64, err error) {
	if len(v) != 8 || len(v[0]) != 8 || len(v[1]) != 8 || len(v[2]) != 8 || len(v[3]) != 4 || len(v[4]) != 4 || len(v[5]) != 2 || len(v[7]) != 8 {
		return Row{}, 0, errors.New("chunks: a row of an unexpected shape")
	}
	return Row{
		SeriesID: binary.BigEndian.Uint64(v[0]),
		Start:    int64(binary.BigEndian.Uint64(v[1])),
		End:      int64(binary.BigEndian.Uint64(v[2])),
		N:        int32(binary.BigEndian.Uint32(v[3])),
		Version:  int32(binary.BigEndian.Uint32(v[4])),
		Encoding: codec.Encoding(binary.BigEndian.Uint16(v[5])),
		Data:     v[6],
	}, int64(binary.BigEndian.Uint64(v[7])), nil
}

// appendTuple appends a row of a table, of series IDs from r's up to last, with the packed rows of a number of members;
// part goes first unless it is negative. Data is what data appends.
func appendTuple(b []byte, part int32, r Row, last int64, members int32, data func([]byte) []byte) []byte {
	fields := 9
	if part >= 0 {
		fields++
	}
	b = pgcopy.AppendRow(b, fields)
	if part >= 0 {
		b = pgcopy.AppendInt4(b, part)
	}
	b = pgcopy.AppendInt8(b, int64(r.SeriesID))
	b = pgcopy.AppendInt8(b, last)
	b = pgcopy.AppendInt8(b, r.Start)
	b = pgcopy.AppendInt8(b, r.End)
	b = pgcopy.AppendInt4(b, r.N)
	b = pgcopy.AppendInt4(b, members)
	b = pgcopy.AppendInt4(b, r.Version)
	b = pgcopy.AppendInt2(b, int16(r.Encoding))
	return pgcopy.AppendBytes(b, data)
}

// String names the row for logs and errors.
func (r Row) String() string {
	if r.Encoding == EncodingBundle {
		return fmt.Sprintf("bundle of series from %d on, %d to %d ms, %d samples", r.SeriesID, r.Start, r.End, r.N)
	}
	return fmt.Sprintf("row of series %d, %d to %d ms, %d samples", r.SeriesID, r.Start, r.End, r.N)
}
