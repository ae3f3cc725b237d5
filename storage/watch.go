package storage

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/head"
)

// backlog is what waits for merges.
type backlog struct {
	parts  *prometheus.GaugeVec
	oldest *prometheus.GaugeVec
}

func newBacklog() backlog {
	b := backlog{
		parts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "promkeep_merge_backlog_parts",
			Help: "Parts of packed rows: open while rows are gathered, sealed while they wait for a merge, merged while a transaction may still read them. Level 0 as flushed, level 1 of two hours.",
		}, []string{"level", "state"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "promkeep_merge_backlog_age_seconds",
			Help: "Age of the oldest part that waits for a merge; 0 if none waits.",
		}, []string{"level"}),
	}
	for _, level := range levels {
		for _, state := range states {
			b.parts.WithLabelValues(level, state).Set(0)
		}
		b.oldest.WithLabelValues(level).Set(0)
	}
	return b
}

var (
	levels = [2]string{"0", "1"}
	states = [3]string{"open", "sealed", "merged"}
)

// watch measures the backlog.
func (db *DB) watch(ctx context.Context) error {
	var logSize int64
	if err := db.pool.QueryRow(ctx, schema.LogSize).Scan(&logSize); err != nil {
		return err
	}
	db.logSize.Store(logSize)
	rows, err := db.pool.Query(ctx, schema.PartBacklog)
	if err != nil {
		return err
	}
	type key struct{ level, state string }
	parts, oldest := map[key]int64{}, map[string]float64{}
	var (
		level int16
		state string
		n     int64
		age   float64
	)
	_, err = pgx.ForEachRow(rows, []any{&level, &state, &n, &age}, func() error {
		name := levels[min(max(level, 0), 1)]
		if parts[key{name, state}] = n; state == "sealed" {
			oldest[name] = age
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, state := range states {
			db.metrics.backlog.parts.WithLabelValues(level, state).Set(float64(parts[key{level, state}]))
		}
		db.metrics.backlog.oldest.WithLabelValues(level).Set(oldest[level])
	}
	return nil
}

// MaxTenantLabels bounds the tenants that metrics tell apart: those that were there first.
const MaxTenantLabels = 500

// OtherTenants is the label that those have together which metrics do not tell apart. It is no tenant's name.
const OtherTenants = "<other>"

// tenantMetrics exposes what tenants have in memory, and what they wrote since this process began.
type tenantMetrics struct {
	db              *DB
	series, samples *prometheus.Desc
}

func newTenantMetrics(db *DB) *tenantMetrics {
	help := " Of many tenants the youngest have the label " + OtherTenants + " together."
	return &tenantMetrics{
		db:      db,
		series:  prometheus.NewDesc("promkeep_tenant_series", "Series of a tenant in memory."+help, []string{"tenant"}, nil),
		samples: prometheus.NewDesc("promkeep_tenant_samples_appended_total", "Samples of a tenant that were committed and acknowledged."+help, []string{"tenant"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *tenantMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.series
	ch <- m.samples
}

// Collect implements prometheus.Collector.
func (m *tenantMetrics) Collect(ch chan<- prometheus.Metric) {
	tenants := m.db.head.Tenants()
	slices.SortFunc(tenants, func(a, b *head.Tenant) int { return cmp.Compare(a.ID, b.ID) })
	var series, samples float64
	for i, t := range tenants {
		series, samples = series+float64(t.Len()), samples+float64(t.Appended.Load())
		name := m.db.catalogue.TenantName(t.ID)
		if i >= MaxTenantLabels {
			if i < len(tenants)-1 {
				continue
			}
			name = OtherTenants
		} else if name == "" {
			continue // not asked for yet: it has written nothing
		}
		ch <- prometheus.MustNewConstMetric(m.series, prometheus.GaugeValue, series, name)
		ch <- prometheus.MustNewConstMetric(m.samples, prometheus.CounterValue, samples, name)
		series, samples = 0, 0
	}
}
