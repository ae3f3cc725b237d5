package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestArraysAreThoseOfPgx: arrays go to the server and come back byte for byte as pgx itself encodes and reads them.
func TestArraysAreThoseOfPgx(t *testing.T) {
	theirs, ours := pgtype.NewMap(), pgtype.NewMap()
	registerArrays(ours)
	type list struct {
		oid    uint32
		slices []any
	}
	long := make([]int32, 5000)
	for i := range long {
		long[i] = int32(i * i * i)
	}
	for _, l := range []list{
		{pgtype.Int4ArrayOID, []any{[]int32(nil), []int32{}, []int32{7}, []int32{-1, 0, 1 << 30}, long, []*int32{nil, &long[1]}}},
		{pgtype.Int8ArrayOID, []any{[]int64(nil), []int64{}, []int64{-1 << 63, 1<<63 - 1}, []*int64{nil}, []int32{1, 2}}},
		{pgtype.TextArrayOID, []any{[]string(nil), []string{}, []string{"", "{1,2}", "é", strings.Repeat("x", 9000)}}},
		{pgtype.ByteaArrayOID, []any{[][]byte(nil), [][]byte{}, [][]byte{{}, {0, 1}, make([]byte, 9000)}, [][]byte{{1}, nil, {}}}},
	} {
		for _, s := range l.slices {
			name := fmt.Sprintf("%d: %T of %.40v", l.oid, s, s)
			for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
				before := []byte("before")
				want, err := theirs.Encode(l.oid, format, s, before)
				require.NoError(t, err, name)
				got, err := ours.Encode(l.oid, format, s, before)
				require.NoError(t, err, name)
				require.Equal(t, want, got, name)
				if want == nil {
					continue
				}
				want = want[len(before):]
				switch s.(type) {
				case []int32:
					same[[]int32](t, theirs, ours, l.oid, format, want)
				case []int64:
					same[[]int64](t, theirs, ours, l.oid, format, want)
				case []*int32:
					same[[]int32](t, theirs, ours, l.oid, format, want)
					same[[]*int32](t, theirs, ours, l.oid, format, want)
				case []string:
					same[[]string](t, theirs, ours, l.oid, format, want)
				case [][]byte:
					same[[][]byte](t, theirs, ours, l.oid, format, want)
				}
				if format == pgtype.BinaryFormatCode && len(want) < 1000 {
					for n := range want { // cut off
						same[[]int32](t, theirs, ours, l.oid, format, want[:n])
						same[[]int64](t, theirs, ours, l.oid, format, want[:n])
					}
				}
			}
		}
	}
}

// same requires that both read the same, or both fail.
func same[T any](t *testing.T, theirs, ours *pgtype.Map, oid uint32, format int16, src []byte) {
	t.Helper()
	var want, got T
	wantErr, gotErr := theirs.Scan(oid, format, src, &want), ours.Scan(oid, format, src, &got)
	if wantErr != nil {
		require.Error(t, gotErr)
		return
	}
	require.NoError(t, gotErr)
	require.Equal(t, want, got)
}

// TestArraysOfTheServer: the server reads and writes them.
func TestArraysOfTheServer(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		pc, err := parse(Config{URI: pg.URI, MaxConns: 2})
		require.NoError(t, err)
		pool, err := pgxpool.NewWithConfig(context.Background(), pc)
		require.NoError(t, err)
		defer pool.Close()
		ints, longs, texts, bytes := []int32{3, -4}, []int64{1 << 40}, []string{"a", "", "{}"}, [][]byte{{1, 0}, nil, {}}
		var (
			gotInts  []int32
			gotLongs []int64
			gotTexts []string
			gotBytes [][]byte
			empty    []int64
		)
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT $1::int4[], $2::int8[], $3::text[], $4::bytea[], $5::int8[]", ints, longs, texts, bytes, []int64{}).
			Scan(&gotInts, &gotLongs, &gotTexts, &gotBytes, &empty))
		require.Equal(t, ints, gotInts)
		require.Equal(t, longs, gotLongs)
		require.Equal(t, texts, gotTexts)
		require.Equal(t, bytes, gotBytes)
		require.Empty(t, empty)
	})
}

func BenchmarkArrays(b *testing.B) {
	ours := pgtype.NewMap()
	registerArrays(ours)
	ints := make([]int32, 5000)
	blocks := make([][]byte, 100)
	for i := range blocks {
		blocks[i] = make([]byte, 7900)
	}
	for name, m := range map[string]*pgtype.Map{"pgx": pgtype.NewMap(), "own": ours} {
		b.Run("int4/"+name, func(b *testing.B) {
			for range b.N {
				if _, err := m.Encode(pgtype.Int4ArrayOID, pgtype.BinaryFormatCode, ints, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bytea/"+name, func(b *testing.B) {
			for range b.N {
				if _, err := m.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, blocks, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
