package storage

import (
	"cmp"
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/head"
)

// backlog is what waits for merges and the columnstore, as of the last maintenance.
type backlog struct {
	parts  *prometheus.GaugeVec
	oldest *prometheus.GaugeVec
}

func newBacklog() backlog {
	b := backlog{
		parts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "promkeep_merge_backlog_parts",
			Help: "Parts of packed rows that are gathered or wait for a merge, as of the last maintenance: level 0 as flushed, level 1 of two hours.",
		}, []string{"level", "state"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "promkeep_merge_backlog_age_seconds",
			Help: "Age of the oldest part that waits for a merge, as of the last maintenance; 0 if none waits.",
		}, []string{"level"}),
	}
	b.reset()
	return b
}

var levels = [2]string{"0", "1"}

func (b backlog) reset() {
	for _, level := range levels {
		b.parts.WithLabelValues(level, "open").Set(0)
		b.parts.WithLabelValues(level, "sealed").Set(0)
		b.oldest.WithLabelValues(level).Set(0)
	}
}

// watch measures the backlog.
func (db *DB) watch(ctx context.Context) error {
	rows, err := db.pool.Query(ctx, schema.PartBacklog)
	if err != nil {
		return err
	}
	defer rows.Close()
	b := db.metrics.backlog
	b.reset()
	for rows.Next() {
		var (
			level  int16
			sealed bool
			parts  int64
			age    float64
		)
		if err := rows.Scan(&level, &sealed, &parts, &age); err != nil {
			return err
		}
		name := levels[min(max(level, 0), 1)]
		if !sealed {
			b.parts.WithLabelValues(name, "open").Set(float64(parts))
			continue
		}
		b.parts.WithLabelValues(name, "sealed").Set(float64(parts))
		b.oldest.WithLabelValues(name).Set(age)
	}
	return rows.Err()
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
