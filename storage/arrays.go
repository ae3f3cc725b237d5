package storage

import (
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
)

// registerArrays makes slices of numbers, texts and bytes go as arrays in one pass. pgx asks an interface for each element, which costs a tenth of a
// microsecond, and grows its buffer as it goes: a statement that creates series has tens of thousands of elements, and one of the log up to a megabyte.
func registerArrays(m *pgtype.Map) {
	register(m, pgtype.Int4ArrayOID, array[int32]{
		oid: pgtype.Int4OID, size: 4,
		put: func(b []byte, all []int32) []byte {
			at := len(b)
			b = b[:at+8*len(all)]
			for _, v := range all {
				binary.BigEndian.PutUint64(b[at:], 4<<32|uint64(uint32(v)))
				at += 8
			}
			return b
		},
		get: func(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) },
	})
	register(m, pgtype.Int8ArrayOID, array[int64]{
		oid: pgtype.Int8OID, size: 8,
		put: func(b []byte, all []int64) []byte {
			for _, v := range all {
				b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
			}
			return b
		},
		get: func(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) },
	})
	register(m, pgtype.TextArrayOID, array[string]{oid: pgtype.TextOID, length: func(v string) int { return len(v) }, put: putAll[string]})
	register(m, pgtype.ByteaArrayOID, array[[]byte]{
		oid: pgtype.ByteaOID, length: func(v []byte) int { return len(v) }, put: putAll[[]byte],
		null: func(v []byte) bool { return v == nil },
	})
}

func putAll[T string | []byte](b []byte, all []T) []byte {
	for _, v := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return b
}

func register[T any](m *pgtype.Map, oid uint32, a array[T]) {
	t, ok := m.TypeForOID(oid)
	if !ok {
		return
	}
	a.Codec = t.Codec
	m.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: &a})
}

// array is the codec of arrays of one dimension for slices of T; what else there is it leaves to the one that it has.
type array[T any] struct {
	pgtype.Codec
	oid    uint32 // of an element
	size   int    // of an element, in bytes; 0 if length says it
	length func(T) int
	put    func([]byte, []T) []byte // appends elements with their lengths, for which there is room
	get    func([]byte) T           // nil if elements have no fixed size
	null   func(T) bool             // nil if none is NULL
}

// arrayHeader is the bytes before the first element of an array of one dimension.
const arrayHeader = 20

func (a *array[T]) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]T); ok && format == pgtype.BinaryFormatCode {
		return encodeArray[T]{a, m, oid}
	}
	return a.Codec.PlanEncode(m, oid, format, value)
}

func (a *array[T]) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*[]T); ok && format == pgtype.BinaryFormatCode && a.get != nil {
		return scanArray[T]{a, m, oid}
	}
	return a.Codec.PlanScan(m, oid, format, target)
}

type encodeArray[T any] struct {
	*array[T]
	m        *pgtype.Map
	arrayOID uint32
}

func (e encodeArray[T]) Encode(value any, buf []byte) ([]byte, error) {
	all := value.([]T)
	if all == nil {
		return nil, nil // NULL
	}
	if e.null != nil && slices.ContainsFunc(all, e.null) {
		flat := pgtype.FlatArray[T](all)
		return e.Codec.PlanEncode(e.m, e.arrayOID, pgtype.BinaryFormatCode, flat).Encode(flat, buf)
	}
	bytes := arrayHeader + (4+e.size)*len(all)
	if e.size == 0 {
		for _, v := range all {
			bytes += e.length(v)
		}
	}
	buf = slices.Grow(buf, bytes)
	buf = binary.BigEndian.AppendUint32(buf, 1) // dimensions
	buf = binary.BigEndian.AppendUint32(buf, 0) // no NULL
	buf = binary.BigEndian.AppendUint32(buf, e.oid)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(all)))
	buf = binary.BigEndian.AppendUint32(buf, 1) // the first index
	return e.put(buf, all), nil
}

type scanArray[T any] struct {
	*array[T]
	m        *pgtype.Map
	arrayOID uint32
}

func (s scanArray[T]) Scan(src []byte, target any) error {
	if len(src) >= arrayHeader && binary.BigEndian.Uint32(src) == 1 && binary.BigEndian.Uint32(src[4:]) == 0 && binary.BigEndian.Uint32(src[8:]) == s.oid {
		n := int(binary.BigEndian.Uint32(src[12:]))
		if each := 4 + s.size; n == (len(src)-arrayHeader)/each && (len(src)-arrayHeader)%each == 0 {
			out := make([]T, n)
			for i := range out {
				at := arrayHeader + i*each
				out[i] = s.get(src[at+4 : at+each])
			}
			*target.(*[]T) = out
			return nil
		}
	}
	flat := (*pgtype.FlatArray[T])(target.(*[]T))
	return s.Codec.PlanScan(s.m, s.arrayOID, pgtype.BinaryFormatCode, flat).Scan(src, flat)
}
