package sqltest

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/codec/codectest"
	"github.com/promkeep/promkeep/storage/pgtest"
)

const staleNaN = 0x7ff0000000000002

var oddValues = []float64{
	0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(),
	math.Float64frombits(staleNaN), math.Float64frombits(0xfff0000000000001), math.Float64frombits(0x7ff00000deadbeef),
	math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64, 0x1p-1022, 0x1.fffffffffffffp-1023,
	0x1p-1015, 0x1.8p-964, 0x1p-963, 0x1p-962, 1 << 53, 1<<53 - 1, 1<<53 + 2, -(1 << 53), 1 << 63, 1e300, 1e-300, 0.1, 1.0 / 3,
	1e15, 1e16, 123456789.123456,
}

type generator[T any] struct {
	name string
	make func(r *rand.Rand, n int) []T
}

func each[T any](f func(r *rand.Rand, i int) T) func(r *rand.Rand, n int) []T {
	return func(r *rand.Rand, n int) []T {
		out := make([]T, n)
		for i := range out {
			out[i] = f(r, i)
		}
		return out
	}
}

// rising makes timestamps from steps.
func rising(first int64, step func(r *rand.Rand, n int) int64) func(r *rand.Rand, n int) []int64 {
	return func(r *rand.Rand, n int) []int64 {
		at := first
		return each(func(r *rand.Rand, i int) int64 {
			if i > 0 {
				at += step(r, n)
			}
			return at
		})(r, n)
	}
}

// resetting makes a sum of steps that returns to zero now and then.
func resetting(step func(r *rand.Rand) float64) func(r *rand.Rand, n int) []float64 {
	return func(r *rand.Rand, n int) []float64 {
		x := 0.0
		return each(func(r *rand.Rand, _ int) float64 {
			if x += step(r); r.IntN(150) == 0 {
				x = 0
			}
			return x
		})(r, n)
	}
}

// sprinkled puts odd values among those of f.
func sprinkled(f func(r *rand.Rand, n int) []float64) func(r *rand.Rand, n int) []float64 {
	return func(r *rand.Rand, n int) []float64 {
		v := f(r, n)
		for i := range v {
			if r.IntN(40) == 0 {
				v[i] = oddValues[r.IntN(len(oddValues))]
			}
		}
		return v
	}
}

const scrapeStart = 1_700_000_000_000

var kindsOfTime = []generator[int64]{
	{"exact", rising(scrapeStart, func(*rand.Rand, int) int64 { return 15000 })},
	{"negative", rising(-5_000_000, func(*rand.Rand, int) int64 { return 15000 })},
	{"jitter", func(r *rand.Rand, n int) []int64 {
		return each(func(r *rand.Rand, i int) int64 { return scrapeStart + int64(i)*15000 + r.Int64N(41) - 20 })(r, n)
	}},
	{"rarely", func(r *rand.Rand, n int) []int64 {
		return each(func(r *rand.Rand, i int) int64 {
			return scrapeStart + int64(i)*15000 + int64(max(0, r.IntN(20)-18))*r.Int64N(100)
		})(r, n)
	}},
	{"irregular", rising(3, func(r *rand.Rand, _ int) int64 { return 1 + r.Int64N(100_000) })},
	{"gaps", rising(scrapeStart, func(r *rand.Rand, _ int) int64 { return 15000 * (1 + max(0, r.Int64N(50)-48)*r.Int64N(10000)) })},
	{"dense", rising(0, func(*rand.Rand, int) int64 { return 1 })},
	{"enormous", rising(math.MinInt64, func(r *rand.Rand, n int) int64 { return 1 + r.Int64N(math.MaxInt64/int64(n)) })},
	{"extremes", func(r *rand.Rand, n int) []int64 {
		t := rising(int64(-n), func(*rand.Rand, int) int64 { return 1 })(r, n)
		t[0], t[n-1] = math.MinInt64, math.MaxInt64
		return t
	}},
	{"leap", func(r *rand.Rand, n int) []int64 {
		t := rising(0, func(*rand.Rand, int) int64 { return 15 })(r, n)
		t[n-1] = math.MaxInt64
		return t
	}},
}

// wandering is a counter whose rate changes slowly.
func wandering(rate float64) func(r *rand.Rand, n int) []float64 {
	return func(r *rand.Rand, n int) []float64 {
		out := make([]float64, n)
		level, x := 0.0, 0.0
		for i := range out {
			level = 0.98*level + 0.2*r.NormFloat64()
			mean := rate * math.Exp(0.3*level)
			x += math.Floor(math.Max(0, mean+0.2*mean*r.NormFloat64()))
			out[i] = x
		}
		return out
	}
}

var kindsOfValue = func() []generator[float64] {
	counter := resetting(func(r *rand.Rand) float64 { return float64(r.IntN(1000)) })
	uniform := each(func(r *rand.Rand, _ int) float64 { return r.Float64() })
	out := []generator[float64]{
		{"constant", each(func(*rand.Rand, int) float64 { return 1 })},
		{"wandering", wandering(100)},
		{"wandering, huge", wandering(1 << 45)},
		{"pi", each(func(*rand.Rand, int) float64 { return math.Pi })},
		{"nan", each(func(*rand.Rand, int) float64 { return math.NaN() })},
		{"stale", each(func(*rand.Rand, int) float64 { return math.Float64frombits(staleNaN) })},
		{"line", each(func(_ *rand.Rand, i int) float64 { return float64(7 * i) })},
		{"counter", counter},
		{"rare", resetting(func(r *rand.Rand) float64 { return float64(max(0, r.IntN(200)-197) * r.IntN(9)) })},
		{"decimals", each(func(r *rand.Rand, _ int) float64 { return float64(r.IntN(20000)-10000) / 1000 })},
		{"big", resetting(func(r *rand.Rand) float64 { return float64(r.Int64N(1 << 40)) })},
		{"pages", each(func(r *rand.Rand, _ int) float64 { return 4096 * float64(r.IntN(1000)) })},
		{"toggling", each(func(r *rand.Rand, _ int) float64 { return float64(15 * r.IntN(2)) })},
		{"uniform", uniform},
		{"normal", each(func(r *rand.Rand, _ int) float64 { return r.NormFloat64() })},
		{"any", each(func(r *rand.Rand, _ int) float64 { return math.Float64frombits(r.Uint64()) })},
		{"few bits", each(func(r *rand.Rand, _ int) float64 { return 1 + float64(r.IntN(64))/65536 })},
		{"odd", each(func(r *rand.Rand, _ int) float64 { return oddValues[r.IntN(len(oddValues))] })},
		{"odd in counter", sprinkled(counter)},
		{"odd in floats", sprinkled(uniform)},
		{"odd in sum", sprinkled(resetting(func(r *rand.Rand) (x float64) {
			for range 20 {
				x += float64(r.IntN(1e6)) / 1e6
			}
			return x
		}))},
		{"signs", each(func(r *rand.Rand, i int) float64 { return float64(1 - i%2*2) })},
	}
	for _, k := range codectest.Kinds() {
		out = append(out, generator[float64]{k.Name, func(r *rand.Rand, n int) []float64 { return k.Values(r.Uint64(), n) }})
	}
	return out
}()

// packed is a row and what it holds.
type packed struct {
	name string
	data []byte
	t    []int64
	v    []float64
}

// everyKind makes rows of all kinds of timestamps and values.
func everyKind(lengths ...int) []packed {
	r := rand.New(rand.NewPCG(7, 7))
	var out []packed
	for _, kt := range kindsOfTime {
		for _, kv := range kindsOfValue {
			for _, n := range lengths {
				p := packed{name: fmt.Sprintf("%s/%s/%d", kt.name, kv.name, n), t: kt.make(r, n), v: kv.make(r, n)}
				var st []int64
				if r.IntN(5) == 0 {
					st = kindsOfTime[r.IntN(len(kindsOfTime))].make(r, n)
				}
				p.data = codec.Append(nil, p.t, p.v, st)
				out = append(out, p)
			}
		}
	}
	return out
}

// golden reads the rows that document the format.
func golden(t testing.TB) []packed {
	files, err := filepath.Glob("../codec/testdata/golden/*.tsv")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var out []packed
	for _, file := range files {
		p := packed{name: filepath.Base(file)}
		p.data, err = os.ReadFile(strings.TrimSuffix(file, ".tsv") + ".row")
		require.NoError(t, err)
		f, err := os.Open(file)
		require.NoError(t, err)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var at int64
			var bits uint64
			_, err := fmt.Sscanf(lines.Text(), "%d\t%x", &at, &bits)
			require.NoError(t, err, lines.Text())
			p.t, p.v = append(p.t, at), append(p.v, math.Float64frombits(bits))
		}
		require.NoError(t, f.Close())
		out = append(out, p)
	}
	return out
}

// requireSame compares what SQL gave: NULL for stale markers, some NaN for the others, and all else bit by bit.
func requireSame(t testing.TB, name string, wantT []int64, wantV []float64, gotT []int64, gotV []pgtype.Float8) {
	t.Helper()
	if !slices.Equal(wantT, gotT) {
		require.Equal(t, wantT, gotT, name)
	}
	require.Len(t, gotV, len(wantV), name)
	for i, want := range wantV {
		got := gotV[i]
		same := got.Valid && math.Float64bits(got.Float64) == math.Float64bits(want)
		switch {
		case math.Float64bits(want) == staleNaN:
			same = !got.Valid
		case math.IsNaN(want):
			same = got.Valid && math.IsNaN(got.Float64)
		}
		if !same {
			require.Failf(t, "value differs", "%s, sample %d of %d: %v (%x), want %v (%x)", name, i, len(wantV), got, math.Float64bits(got.Float64), want, math.Float64bits(want))
		}
	}
}

// migrated is an empty store's database.
func migrated(t testing.TB, pg *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.URI)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// load puts rows into a temporary table.
func load(t testing.TB, conn *pgx.Conn, rows []packed) {
	t.Helper()
	_, err := conn.Exec(t.Context(), "CREATE TEMP TABLE packed (i int, data bytea)")
	require.NoError(t, err)
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"packed"}, []string{"i", "data"},
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return []any{i, rows[i].data}, nil }))
	require.NoError(t, err)
}

// TestSQLDecodesAsGo decodes the documented rows and rows of every kind in SQL.
func TestSQLDecodesAsGo(t *testing.T) {
	rows := append(golden(t), everyKind(1, 2, 3, 8, 9, 65, 120, 480, 1024)...)
	if !testing.Short() {
		rows = append(rows, everyKind(7, 63, 513, 1025, 2500)...)
	}
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		if pg.HasTimescaleDB {
			t.Skip("decoding has nothing to do with TimescaleDB")
		}
		conn := migrated(t, pg)
		for i, row := range rows {
			var at []int64
			var v []pgtype.Float8
			err := conn.QueryRow(t.Context(), "SELECT t, v FROM _promkeep.decode_row($1, -9223372036854775808, 9223372036854775807)", row.data).Scan(&at, &v)
			require.NoError(t, err, "row %d, %s: %x", i, row.name, row.data)
			requireSame(t, row.name, row.t, row.v, at, v)
		}
	})
}

// TestSQLDecodesRanges skips the blocks that are not wanted, and no other.
func TestSQLDecodesRanges(t *testing.T) {
	conn := migrated(t, pgtest.New(t))
	r := rand.New(rand.NewPCG(3, 1))
	times := rising(scrapeStart, func(*rand.Rand, int) int64 { return 15000 })(r, 5760)
	values := codectest.Kinds()[7].Values(1, 5760)
	row := codec.Append(nil, times, values, nil)
	for _, x := range [][2]int{{0, 5759}, {0, 0}, {5759, 5759}, {1000, 3000}, {1024, 1024}, {2000, 2001}, {2048, 4095}} {
		var at []int64
		var v []pgtype.Float8
		lo, hi := times[x[0]], times[x[1]]
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT t, v FROM _promkeep.decode_row($1, $2, $3)", row, lo, hi).Scan(&at, &v))
		require.Equal(t, len(at), len(v))
		require.Less(t, len(at), x[1]-x[0]+1+2*2048, "blocks outside of the range are skipped")
		first := slices.Index(times, at[0])
		requireSame(t, fmt.Sprint(x), times[first:first+len(at)], values[first:first+len(at)], at, v)
		require.LessOrEqual(t, at[0], lo)
		require.GreaterOrEqual(t, at[len(at)-1], hi)
	}
}

// TestSQLDecoderRefusesWhatItDoesNotKnow: a row of a later format is an error, never wrong samples.
func TestSQLDecoderRefusesWhatItDoesNotKnow(t *testing.T) {
	conn := migrated(t, pgtest.New(t))
	good := codec.Append(nil, []int64{1, 2, 4}, []float64{1, 2, 7}, nil)
	decode := func(row []byte) error {
		_, err := conn.Exec(t.Context(), "SELECT _promkeep.decode_row($1, 0, 10)", row)
		return err
	}
	require.NoError(t, decode(good))
	for name, change := range map[string]func(row []byte) []byte{
		"version":   func(row []byte) []byte { row[0] = row[0]&15 | 0x40; return row },
		"histogram": func(row []byte) []byte { row[0] |= 8; return row },
		"cut off":   func(row []byte) []byte { return row[:4] },
		"empty":     func([]byte) []byte { return []byte{} },
		"kind":      func(row []byte) []byte { row[3] = row[3]&^7 | 6; return row },
	} {
		require.Error(t, decode(change(slices.Clone(good))), name)
	}
}

// BenchmarkSQLDecode counts typical samples through the whole of a query, in rows as flushes, windows and days have them.
func BenchmarkSQLDecode(b *testing.B) {
	conn := migrated(b, pgtest.New(b))
	for _, n := range []int{40, 480, 5760} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var rows []packed
			for _, s := range codectest.Corpus(1, max(100, 50000/n), n) {
				rows = append(rows, packed{data: codec.Append(nil, s.T, s.V, nil)})
			}
			load(b, conn, rows)
			defer conn.Exec(b.Context(), "DROP TABLE packed")
			began := cpu(b, conn)
			for b.Loop() {
				var count int
				require.NoError(b, conn.QueryRow(b.Context(), `SELECT count(v) FROM (SELECT unnest(d.t) AS t, unnest(d.v) AS v
					FROM packed p CROSS JOIN LATERAL _promkeep.decode_row(p.data, -9223372036854775808, 9223372036854775807) d) AS s`).Scan(&count))
				require.Equal(b, len(rows)*n, count)
			}
			b.ReportMetric(float64(len(rows)*n*b.N)/(cpu(b, conn)-began), "samples/cpu-s")
		})
	}
}

// cpu returns the seconds of CPU that a connection's backend has taken so far, which on a shared machine says more than the time.
func cpu(b *testing.B, conn *pgx.Conn) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", conn.PgConn().PID()))
	require.NoError(b, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	require.NoError(b, err)
	system, err := strconv.ParseFloat(fields[12], 64)
	require.NoError(b, err)
	return (user + system) / 100 // Linux counts in hundredths, whatever the kernel's own tick
}
