package importer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// openMetricsText is three families over three days, in random order of time, and what is to be read from it.
func openMetricsText(t testing.TB) (string, map[string][]string) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	want := map[string]map[int64]float64{}
	put := func(name string, lset labels.Labels, at int64, v float64) {
		fmt.Fprintf(&b, "%s %v %d.%03d\n", name, v, at/1000, at%1000)
		key := lset.String()
		if want[key] == nil {
			want[key] = map[int64]float64{}
		}
		want[key][at] = v
	}
	begin := today.Add(-60 * time.Hour).UnixMilli()
	b.WriteString("# HELP requests What was asked.\n# TYPE requests counter\n")
	for i := range 20 {
		for range 700 {
			put(fmt.Sprintf("requests_total{path=\"/a\\n\\\"b\\\\ %d\"}", i), labels.FromStrings("__name__", "requests_total", "path", fmt.Sprintf("/a\n\"b\\ %d", i)),
				begin+random.Int64N(60*3600)*1000, float64(random.IntN(1000)))
		}
	}
	b.WriteString("# TYPE waited histogram\n")
	for _, le := range []string{"1", "2.5", "+Inf"} {
		spelled := map[string]string{"1": "1.0", "2.5": "2.5", "+Inf": "+Inf"}[le]
		for k := range int64(900) {
			put(`waited_bucket{le="`+le+`"}`, labels.FromStrings("__name__", "waited_bucket", "le", spelled), begin+k*60_000+7, float64(k))
		}
	}
	b.WriteString("# TYPE plain unknown\n")
	for k := range int64(60_000) {
		put("plain", labels.FromStrings("__name__", "plain"), begin+k*1000, float64(k)/3)
	}
	b.WriteString("# EOF\n")
	out := map[string][]string{}
	for name, samples := range want {
		out[name] = texts(samples)
	}
	return b.String(), out
}

// TestOpenMetricsIsRead imports text larger than what is parsed at once, from a file that is read twice, and in parts; every sample is there,
// and of two with one timestamp the last.
func TestOpenMetricsIsRead(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		text, want := openMetricsText(t)
		file := filepath.Join(t.TempDir(), "text")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		run := func(im *Importer) error { return im.OpenMetrics(context.Background(), file) }
		require.EqualValues(t, count(want), runImport(t, pg, options(), true, run).Samples.Load())
		require.EqualValues(t, count(want), runImport(t, pg, options(), false, run).Samples.Load())
		require.Zero(t, runImport(t, pg, options(), false, run).Samples.Load(), "noted as imported")
		db := serve(t, pg)
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
		o := options()
		o.Again = true
		require.EqualValues(t, count(want), runImport(t, pg, o, false, run).Samples.Load())
		require.NoError(t, db.Maintain(context.Background()))
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
	})
}

// TestOpenMetricsGoesOn: a text that is cut off fails with what was read kept; the whole one goes on behind a place that was noted.
func TestOpenMetricsGoesOn(t *testing.T) {
	pg := pgtest.New(t)
	text, want := openMetricsText(t)
	text = strings.TrimSuffix(text, "# EOF\n")
	// More than is packed at a time.
	var b strings.Builder
	b.WriteString(text + "# TYPE more gauge\n")
	more := map[string]map[int64]float64{}
	for i := range 3 {
		l := labels.FromStrings("__name__", "more", "i", fmt.Sprint(i)).String()
		more[l] = map[int64]float64{}
		for k := range int64(900_000) {
			at := today.Add(-48*time.Hour).UnixMilli() + k*100
			fmt.Fprintf(&b, "more{i=\"%d\"} %d %d.%03d\n", i, k%10, at/1000, at%1000)
			more[l][at] = float64(k % 10)
		}
		want[l] = texts(more[l])
	}
	b.WriteString("# EOF\n")
	file := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	n := stopped(t, pg, options(), 1, func(ctx context.Context, im *Importer) error { return im.OpenMetrics(ctx, file) })
	require.Less(t, n, int64(count(want)))
	stats := runImport(t, pg, options(), false, func(im *Importer) error { return im.OpenMetrics(context.Background(), file) })
	t.Logf("%d samples before, %d after", n, stats.Samples.Load())
	require.NotZero(t, n)
	require.EqualValues(t, count(want), n+stats.Samples.Load())
	same(t, want, raw(t, serve(t, pg), -always, always, labels.EmptyLabels()))
}

func TestOpenMetricsErrors(t *testing.T) {
	pg := pgtest.New(t)
	for text, want := range map[string]string{
		"# TYPE a gauge\na 1 1700000000\n":                         "without # EOF: it is cut off",
		"a 1\n# EOF\n":                                             `{__name__="a"} has no timestamp`,
		"a 1 1700000000\nb x 1700000000\n# EOF\n":                  `line 2: `,
		"a 1 1700000000\n# EOF\nb 1 1\n":                           "there is text after # EOF, line 2",
		"a 1 1700000000\na{b=\"c\" 1 1700000000\n# EOF\n":          "line 2: ",
		"a{b=\"" + strings.Repeat("c", 5<<20) + "\"} 1 1\n# EOF\n": "line 1 is longer than",
	} {
		file := filepath.Join(t.TempDir(), "text")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		to, err := storage.OpenImport(context.Background(), testConfig(t, pg), storage.ImportOptions{})
		require.NoError(t, err)
		require.ErrorContains(t, New(to, options()).OpenMetrics(context.Background(), file), want)
		to.Close()
	}
}
