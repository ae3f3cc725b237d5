package importer

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

const (
	always = int64(1) << 60
)

// TestBlocksAnswerAsPrometheus imports blocks with samples of every kind, without a promkeep that serves; every sample and every
// answer is that of Prometheus' own database over the same blocks: as imported, imported twice, and merged.
func TestBlocksAnswerAsPrometheus(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		dir := history(t)
		prom := openTSDB(t, dir)
		want := raw(t, prom, -always, always, labels.EmptyLabels())
		blocks := func(im *Importer) error { return im.Blocks(context.Background(), dir) }

		dry := runImport(t, pg, options(), true, blocks)
		require.EqualValues(t, count(want), dry.Samples.Load())
		require.EqualValues(t, len(want), dry.Series.Load())
		require.False(t, migrated(t, pg), "a dry run writes nothing")

		stats := runImport(t, pg, options(), false, blocks)
		require.EqualValues(t, count(want), stats.Samples.Load())
		require.EqualValues(t, len(want), stats.Series.Load())
		db := serve(t, pg)
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
		samePromQL(t, prom, db)

		require.Zero(t, runImport(t, pg, options(), false, blocks).Samples.Load(), "all is noted as imported")
		again := options()
		again.Again = true
		require.EqualValues(t, count(want), runImport(t, pg, again, false, blocks).Samples.Load())
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))

		require.NoError(t, db.Maintain(context.Background()))
		require.Zero(t, unmerged(t, pg))
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
		samePromQL(t, prom, db)
		require.NoError(t, db.Close())
		db = serve(t, pg)
		same(t, want, raw(t, db, -always, always, labels.EmptyLabels()))
		samePromQL(t, prom, db)
	})
}

// TestBlocksOfARange imports a range and some series, with further labels, for a tenant.
func TestBlocksOfARange(t *testing.T) {
	pg := pgtest.New(t)
	dir := history(t)
	prom := openTSDB(t, dir)
	o := options()
	o.Tenant = "team"
	o.Labels = labels.FromStrings("cluster", "a", "job", "not this")
	o.Mint, o.Maxt = today.Add(-90*time.Minute).UnixMilli(), today.Add(5*time.Hour).UnixMilli()
	o.Matchers = [][]*labels.Matcher{
		{labels.MustNewMatcher(labels.MatchEqual, "__name__", "requests_total"), labels.MustNewMatcher(labels.MatchRegexp, "i", "1|2")},
		{labels.MustNewMatcher(labels.MatchEqual, "__name__", "requests_total"), labels.MustNewMatcher(labels.MatchEqual, "i", "1")},
		{labels.MustNewMatcher(labels.MatchEqual, "__name__", "latency")},
	}
	runImport(t, pg, o, false, func(im *Importer) error { return im.Blocks(context.Background(), dir) })
	want := map[string][]string{}
	for _, ms := range o.Matchers {
		for name, s := range raw(t, prom, o.Mint, o.Maxt, labels.FromStrings("cluster", "a"), ms...) {
			if name == `{__name__="latency", cluster="a"}` {
				name = `{__name__="latency", cluster="a", job="not this"}`
			}
			want[name] = s
		}
	}
	db := serve(t, pg)
	same(t, want, raw(t, asTenant{db, "team"}, -always, always, labels.EmptyLabels()))
	require.Empty(t, raw(t, db, -always, always, labels.EmptyLabels()))
}

func TestBlocksErrors(t *testing.T) {
	pg := pgtest.New(t)
	im := func(dir string) error {
		var err error
		runImport(t, pg, options(), false, func(im *Importer) error { err = im.Blocks(context.Background(), dir); return nil })
		return err
	}
	require.ErrorContains(t, im(t.TempDir()), "there is no TSDB block in")
	require.ErrorIs(t, im(t.TempDir()+"/nothing"), os.ErrNotExist)
}
