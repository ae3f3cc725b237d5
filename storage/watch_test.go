package storage

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/pgtest"
)

// gathered returns the values of a metric by the values of its labels.
func gathered(t *testing.T, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			key := ""
			for _, l := range m.Label {
				key += l.GetValue() + " "
			}
			out[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// TestWhatWaitsForAMergeCanBeWatched: parts are counted by level and state while they wait, and not afterwards.
func TestWhatWaitsForAMergeCanBeWatched(t *testing.T) {
	pg := pgtest.New(t)
	ctx := context.Background()
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	db := open(t, cfg)
	backlog := func() map[string]float64 { return gathered(t, reg, "promkeep_merge_backlog_parts") }
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1})
	require.NoError(t, db.Flush(ctx))
	require.NoError(t, db.watch(ctx))
	require.Equal(t, map[string]float64{"0 open ": 1, "0 sealed ": 0, "0 merged ": 0, "1 open ": 0, "1 sealed ": 0, "1 merged ": 0}, backlog())
	c.now = day.Add(5 * time.Hour)
	makePartsOld(t, pg)
	require.NoError(t, db.chunks.Seal(ctx, db.log.Epoch(), c.now))
	require.NoError(t, db.watch(ctx))
	require.Equal(t, map[string]float64{"0 open ": 0, "0 sealed ": 1, "0 merged ": 0, "1 open ": 0, "1 sealed ": 0, "1 merged ": 0}, backlog())
	require.Greater(t, gathered(t, reg, "promkeep_log_disk_bytes")[""], 8192.0)
	age := gathered(t, reg, "promkeep_merge_backlog_age_seconds")
	require.InDelta(t, 24*3600, age["0 "], 600)
	require.Zero(t, age["1 "])
	require.NoError(t, db.Maintain(ctx))
	require.Equal(t, map[string]float64{"0 open ": 0, "0 sealed ": 0, "0 merged ": 0, "1 open ": 1, "1 sealed ": 0, "1 merged ": 0}, backlog())
	require.Zero(t, gathered(t, reg, "promkeep_merge_backlog_age_seconds")["0 "])
}

// TestTenantsCanBeWatched: each tenant's series and samples are counted, and the number of labels is bounded.
func TestTenantsCanBeWatched(t *testing.T) {
	pg := pgtest.New(t)
	c := &clock{day.Add(time.Hour)}
	cfg := testConfig(t, pg, c)
	reg := prometheus.NewRegistry()
	cfg.Registerer = reg
	db := open(t, cfg)
	for i := range MaxTenantLabels + 3 {
		name := lset("t", i).Get("i")
		require.NoError(t, tryWrite(db, "tenant-"+name, lset("m", 1), sample{day.UnixMilli(), 1}, sample{day.UnixMilli() + 1, 1}))
	}
	require.NoError(t, tryWrite(db, "tenant-0", lset("m", 2), sample{day.UnixMilli(), 1}))
	series, samples := gathered(t, reg, "promkeep_tenant_series"), gathered(t, reg, "promkeep_tenant_samples_appended_total")
	require.Len(t, series, MaxTenantLabels+1)
	require.Equal(t, []float64{2, 3}, []float64{series["tenant-0 "], samples["tenant-0 "]})
	require.Equal(t, []float64{1, 2}, []float64{series["tenant-9 "], samples["tenant-9 "]})
	require.Equal(t, []float64{3, 6}, []float64{series[OtherTenants+" "], samples[OtherTenants+" "]})
}
