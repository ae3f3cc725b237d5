package codec

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec/codectest"
)

var update = flag.Bool("update", false, "write golden files that do not exist yet")

// golden returns columns that between them need everything the format has.
func golden() map[string]*Columns {
	r := rand.New(rand.NewPCG(1, 1))
	exact := func(n int) []int64 { return steps(1700000000000, n, func(int) int64 { return 15000 }) }
	byKind := map[string]codectest.Kind{}
	for _, k := range codectest.Kinds() {
		byKind[k.Name] = k
	}
	typical := func(kind string, seed uint64, n int) *Columns {
		return &Columns{T: exact(n), V: byKind[kind].Values(seed, n)}
	}
	cases := map[string]*Columns{
		"single":            {T: []int64{1700000000123}, V: []float64{42}},
		"pair":              {T: []int64{-5, 7}, V: []float64{-0.25, 1e300}},
		"zeros":             typical("zero", 1, 120),
		"constant-day":      typical("constant", 1, 5760),
		"line":              {T: exact(100), V: kindsOfValue["line"](r, 100)},
		"mostly-constant":   typical("mostly_constant", 2, 480),
		"rare-events":       typical("rarely_changing_counter", 4, 480),
		"counter":           typical("counter_events", 3, 480),
		"bytes-two-blocks":  typical("counter_bytes", 4, 1100),
		"cpu-seconds":       typical("cpu_seconds", 5, 240),
		"pages":             typical("gauge_pages", 6, 480),
		"heap":              typical("gauge_heap", 7, 120),
		"temperature":       typical("temperature", 8, 120),
		"small-gauge":       typical("gauge_small", 8, 120),
		"durations":         typical("histogram_sum", 3, 240),
		"ratio":             typical("ratio", 9, 60),
		"unix-time":         typical("unix_time", 10, 60),
		"counter-resets":    {T: exact(480), V: resets(counter(r, 480, 1, 1000), 97)},
		"stale-markers":     {T: exact(240), V: sprinkle(counter(r, 240, 1, 1000), 50, stale)},
		"odd-values":        {T: exact(200), V: sprinkled(r, counter(r, 200, 1, 30))},
		"only-odd-values":   {T: exact(40), V: kindsOfValue["odd"](r, 40)},
		"normal-random":     {T: exact(120), V: kindsOfValue["negative"](r, 120)},
		"any-bits":          {T: exact(40), V: kindsOfValue["anyBits"](r, 40)},
		"fresh-20":          typical("counter_events", 11, 20),
		"timestamps-rarely": {T: scattered(r, 300, 20, 30), V: make([]float64, 300)},
		"timestamps-jitter": {T: scattered(r, 300, 1, 3), V: make([]float64, 300)},
		"timestamps-any":    {T: kindsOfTime["irregular"](r, 100), V: make([]float64, 100)},
		"timestamps-gaps":   {T: kindsOfTime["gaps"](r, 200), V: make([]float64, 200)},
		"timestamps-limits": {T: kindsOfTime["extremes"](r, 30), V: make([]float64, 30)},
		"buckets":           typical("histogram_bucket", 20, 2100),
		"buckets-sparse":    typical("histogram_bucket", 21, 960),
		"burst":             {T: exact(960), V: kindsOfValue["burst"](r, 960)},
		"drifting":          {T: exact(480), V: kindsOfValue["drifting"](r, 480)},
		"timestamps-faster": {T: steps(0, 100, func(i int) int64 { return int64(1000 + 7*i) }), V: make([]float64, 100)},
	}
	for _, kind := range []string{"wandering", "wanderingWide", "wanderingHuge", "wanderingOdd"} {
		cases[kind] = &Columns{T: exact(160), V: kindsOfValue[kind](r, 160)}
	}
	cases["wandering-late"] = &Columns{T: scattered(r, 300, 20, 30), V: kindsOfValue["wandering"](r, 300)}
	cases["wandering-starts"] = &Columns{T: exact(300), V: kindsOfValue["wandering"](r, 300)}
	cases["wandering-starts"].ST = kindsOfStart["few"](r, cases["wandering-starts"].T)
	withStarts := typical("counter_events", 12, 300)
	withStarts.ST = kindsOfStart["few"](r, withStarts.T)
	cases["starts"] = withStarts
	return cases
}

func sprinkle(v []float64, every int, x float64) []float64 {
	for i := every; i < len(v); i += every {
		v[i] = x
	}
	return v
}

const goldenDir = "testdata/golden"

// encoderChoices stands in the names of golden rows and changes when the encoder, within
// a version, chooses otherwise than it did.
const encoderChoices = "c"

// TestGoldenRows holds both directions against files: rows written by any
// earlier build must read the same for ever, and today's encoder writes the
// bytes of one of them. A test of another decoder can use the files too: name.row is the
// row; name.tsv has a line for every sample with the timestamp, the bits of the
// value in hexadecimal, and the start timestamp when the row has those.
func TestGoldenRows(t *testing.T) {
	if *update {
		rows := goldenRows(t)
		known := bySamples(rows)
		write := func(name string, c *Columns) {
			row := Append(nil, c.T, c.V, c.ST)
			samples := string(toTSV(c))
			if slices.ContainsFunc(known[samples], func(r []byte) bool { return string(r) == string(row) }) {
				return
			}
			known[samples] = append(known[samples], row)
			if version := row[0] >> 4; version > version1 || rows[name].row != nil {
				name = fmt.Sprintf("v%d%s-%s", version, encoderChoices, name) // beside those of earlier versions and encoders
			}
			writeGolden(t, name+".row", row)
			writeGolden(t, name+".tsv", toTSV(c))
		}
		for name, c := range golden() {
			write(name, c)
		}
		for name, file := range rows { // samples that golden no longer makes
			if (Append(nil, file.want.T, file.want.V, file.want.ST)[0])>>4 <= file.row[0]>>4 {
				write("of-"+name, &file.want)
			}
		}
	}
	rows := goldenRows(t)
	known := bySamples(rows)
	for name, file := range rows {
		t.Run(name, func(t *testing.T) {
			var c Columns
			require.NoError(t, c.Decode(file.row))
			requireSame(t, file.want.T, file.want.V, file.want.ST, &c)
			row := Append(nil, file.want.T, file.want.V, file.want.ST)
			if string(row) == string(file.row) {
				return
			}
			// Rows of earlier versions and encoders are only read.
			if file.row[0]>>4 < row[0]>>4 {
				return
			}
			require.Contains(t, known[string(toTSV(&file.want))], row, "today's bytes are not among the golden rows: has the encoder changed?")
		})
	}
}

// bySamples returns the rows of the same samples, by those.
func bySamples(rows map[string]goldenRow) map[string][][]byte {
	m := map[string][][]byte{}
	for _, file := range rows {
		tsv := string(toTSV(&file.want))
		m[tsv] = append(m[tsv], file.row)
	}
	return m
}

type goldenRow struct {
	row  []byte
	want Columns
}

func goldenRows(t *testing.T) map[string]goldenRow {
	t.Helper()
	files, err := filepath.Glob(goldenDir + "/*.tsv")
	require.NoError(t, err)
	require.Greater(t, len(files), len(golden()))
	rows := map[string]goldenRow{}
	for _, path := range files {
		row, err := os.ReadFile(strings.TrimSuffix(path, ".tsv") + ".row")
		require.NoError(t, err)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		g := goldenRow{row: row}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			at, err := strconv.ParseInt(fields[0], 10, 64)
			require.NoError(t, err)
			b, err := strconv.ParseUint(fields[1], 16, 64)
			require.NoError(t, err)
			g.want.T, g.want.V = append(g.want.T, at), append(g.want.V, math.Float64frombits(b))
			if len(fields) == 3 {
				st, err := strconv.ParseInt(fields[2], 10, 64)
				require.NoError(t, err)
				g.want.ST = append(g.want.ST, st)
			}
		}
		rows[strings.TrimSuffix(filepath.Base(path), ".tsv")] = g
	}
	return rows
}

func toTSV(c *Columns) []byte {
	var b []byte
	for i := range c.T {
		b = fmt.Appendf(b, "%d\t%016x", c.T[i], math.Float64bits(c.V[i]))
		if c.ST != nil {
			b = fmt.Appendf(b, "\t%d", c.ST[i])
		}
		b = append(b, '\n')
	}
	return b
}

// writeGolden writes a golden file, unless it exists: what was once written
// must stay readable.
func writeGolden(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(goldenDir, name)
	if _, err := os.Stat(path); err == nil {
		return
	}
	require.NoError(t, os.MkdirAll(goldenDir, 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

// Rows of histograms are held in one direction only: what is inside the chunks
// is Prometheus' to improve.
func TestGoldenHistograms(t *testing.T) {
	for name, h := range histogramCases() {
		ts := steps(1700000000000, len(h), func(int) int64 { return 15000 })
		st := steps(1600000000000, len(h), func(i int) int64 { return int64(i / 3) })
		row, err := AppendHistograms(nil, ts, st, h)
		require.NoError(t, err)
		frow, err := AppendFloatHistograms(nil, ts, nil, toFloat(h))
		require.NoError(t, err)
		for name, row := range map[string][]byte{"histogram-" + name: row, "floathistogram-" + name: frow} {
			t.Run(name, func(t *testing.T) {
				if *update {
					writeGolden(t, name+".row", row)
				}
				old, err := os.ReadFile(filepath.Join(goldenDir, name+".row"))
				require.NoError(t, err)
				var want, got Histograms
				require.NoError(t, want.Decode(row))
				require.NoError(t, got.Decode(old))
				requireSameHistograms(t, &want, &got, true)
				require.Equal(t, want.ST, got.ST)
			})
		}
	}
}

// TestGoldenRowsCoverTheFormat makes sure that nothing of the format is left
// without a golden file.
func TestGoldenRowsCoverTheFormat(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goldenRows(t) {
		body, err := checked(g.row)
		require.NoError(t, err)
		r := reader{b: body}
		var h header
		require.NoError(t, r.floatHeader(&h))
		for _, f := range []byte{flagBlocks, flagRegular, flagStart} {
			seen[fmt.Sprintf("version %d flag %d", h.version, f)] = seen[fmt.Sprintf("version %d flag %d", h.version, f)] || h.flags&f != 0
		}
		it := blockIterator{r: r, h: h}
		for it.next() {
			coverBlock(t, seen, &it.body, &h, it.count)
		}
		require.NoError(t, it.err)
	}
	for kind := range numKinds {
		require.True(t, seen[fmt.Sprintf("kind %d", kind)], "kind %d", kind)
	}
	for _, ext := range []byte{extUnit, extExceptions, extSpecials, extSparse, extCorrected} {
		require.True(t, seen[fmt.Sprintf("ext %d", ext)], "extension %d", ext)
	}
	for kind := range 4 {
		require.True(t, seen[fmt.Sprintf("version 1 plane %d", kind)], "plane kind %d", kind)
		require.True(t, seen[fmt.Sprintf("special %d", kind)], "special code %d", kind)
	}
	for kind := range numPlaneKinds {
		require.True(t, seen[fmt.Sprintf("version 2 plane %d", kind)], "plane kind %d", kind)
	}
	for _, inverted := range []int{0, presenceInverted} {
		require.True(t, seen[fmt.Sprintf("version 2 presence %d", inverted)], "presence %d", inverted)
	}
	for flag, yes := range seen {
		require.True(t, yes, flag)
	}
}

// coverBlock notes what the columns of a block use.
func coverBlock(t *testing.T, seen map[string]bool, r *reader, h *header, n int) {
	t.Helper()
	flags := h.flags
	d := decoder{version: h.version}
	defer d.close()
	column := func(col columnType) byte {
		var c column
		require.NoError(t, r.columnHeader(&c, h.version, col, n))
		seen[fmt.Sprintf("kind %d", c.kind)] = true
		for _, ext := range []byte{extUnit, extExceptions, extSpecials, extSparse, extCorrected} {
			if c.ext&ext != 0 {
				seen[fmt.Sprintf("ext %d", ext)] = true
			}
		}
		if !c.flat() {
			switch {
			case h.version >= version2 && c.ext&extSparse != 0:
				seen[fmt.Sprintf("version 2 plane %d", r.b[0]&15)] = true
				seen[fmt.Sprintf("version 2 presence %d", r.b[0]&presenceInverted)] = true
			case h.version >= version2 && c.width > 0:
				for p := range c.width - int(r.b[0]) {
					seen[fmt.Sprintf("version 2 plane %d", r.b[1+p/2]>>(p%2*4)&15)] = true
				}
			case h.version == version1 && c.ext&extSparse == 0:
				for p := range c.width {
					seen[fmt.Sprintf("version 1 plane %d", r.b[p/4]>>(p%4*2)&3)] = true
				}
			}
			require.NoError(t, decodeInts(&d, r, &c, make([]int64, n)))
		}
		return c.ext
	}
	if flags&flagRegular == 0 {
		column(columnTime)
	} else if n > 1 && h.version == version1 {
		r.uvarint()
	}
	if flags&flagStart != 0 {
		column(columnStart)
	}
	ext := column(columnValue)
	if ext&extCorrected != 0 {
		column(columnCorrection)
	}
	if ext&extSpecials != 0 {
		for range r.uvarint() {
			code := r.uvarint() & 3
			seen[fmt.Sprintf("special %d", code)] = true
			if code == specialRaw {
				r.uint64()
			}
		}
	}
	require.Empty(t, r.b)
}
