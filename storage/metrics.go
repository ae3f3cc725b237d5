package storage

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promkeep/promkeep/storage/chunks"
)

type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	samples       prometheus.Counter
	seriesCreated prometheus.Counter
	createSeconds prometheus.Histogram
	seriesRetired prometheus.Counter
	commitSeconds prometheus.Histogram
	commitBytes   prometheus.Counter
	commitRows    prometheus.Counter
	flushSeconds  prometheus.Histogram
	flushFailures prometheus.Counter
	flushRows     prometheus.Counter
	flushSamples  prometheus.Counter
	flushBytes    prometheus.Counter
	lastFlush     prometheus.Gauge
	mergeSeconds  prometheus.Histogram
	mergeFailures prometheus.Counter
	mergeRows     *prometheus.CounterVec
	corruptRows   prometheus.Counter
	backlog       backlog
	daysDropped   prometheus.Counter
	jobSeconds    *prometheus.CounterVec
	jobFailures   *prometheus.CounterVec
	jobBusy       *prometheus.GaugeVec
	jobLast       *prometheus.GaugeVec

	daysDroppedForSize prometheus.Counter
	erasedRows         prometheus.Counter
	erasedSamples      prometheus.Counter
	eraseFailures      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, db *DB) *metrics {
	m := &metrics{registerer: reg}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		m.all = append(m.all, h)
		return h
	}
	gauge := func(name, help string, fn func() float64) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, fn))
	}
	quick := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	slow := []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 600}

	m.samples = counter("promkeep_samples_appended_total", "Samples that were committed and acknowledged.")
	m.seriesCreated = counter("promkeep_catalogue_series_resolved_total", "Series looked up or created in the catalogue, since this process did not know them.")
	m.seriesRetired = counter("promkeep_catalogue_series_retired_total", "Series past the retention that were taken out of the catalogue.")
	m.createSeconds = histogram("promkeep_catalogue_resolve_duration_seconds", "Time to look up or create one round of series.", quick)
	m.commitSeconds = histogram("promkeep_log_commit_duration_seconds", "Time of one group commit.", quick)
	m.commitBytes = counter("promkeep_log_bytes_total", "Payload bytes committed to the log.")
	m.commitRows = counter("promkeep_log_rows_total", "Rows committed to the log.")
	m.flushSeconds = histogram("promkeep_flush_duration_seconds", "Time of one flush.", slow)
	m.flushFailures = counter("promkeep_flush_failures_total", "Flushes that failed and will be tried again.")
	m.flushRows = counter("promkeep_flush_rows_total", "Packed rows written by flushes.")
	m.flushSamples = counter("promkeep_flush_samples_total", "Samples written by flushes.")
	m.flushBytes = counter("promkeep_flush_bytes_total", "Bytes of packed data written by flushes.")
	m.lastFlush = prometheus.NewGauge(prometheus.GaugeOpts{Name: "promkeep_flush_last_success_timestamp_seconds", Help: "When the last flush was committed."})
	m.mergeSeconds = histogram("promkeep_merge_step_duration_seconds", "Time of one step of a merge.", slow)
	m.mergeFailures = counter("promkeep_merge_failures_total", "Steps of merges that failed and will be tried again.")
	m.mergeRows = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promkeep_merge_rows_total", Help: "Packed rows read and written by merges."}, []string{"direction"})
	m.mergeRows.WithLabelValues("in")
	m.mergeRows.WithLabelValues("out")
	m.corruptRows = counter("promkeep_corrupt_rows_total", "Packed rows that could not be decoded, each time one was met.")
	m.daysDropped = counter("promkeep_retention_days_dropped_total", "Day ranges dropped by the retention.")
	m.daysDroppedForSize = counter("promkeep_retention_size_days_dropped_total", "Day ranges dropped because the store was larger than --storage.retention.size.")
	m.erasedRows = counter("promkeep_erase_rows_total", "Packed rows that were written again, or went, because samples in them were deleted or are past their retention.")
	m.erasedSamples = counter("promkeep_erase_samples_total", "Samples taken out of packed rows because they were deleted or are past their retention.")
	m.eraseFailures = counter("promkeep_erase_failures_total", "Attempts to take samples out of packed rows that failed and will be repeated.")
	m.backlog = newBacklog()
	byWork := []string{"work"} // not job, which is the scrape's
	m.jobSeconds = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promkeep_background_seconds_total", Help: "Time that background work took, without its rests."}, byWork)
	m.jobFailures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promkeep_background_failures_total", Help: "Background work that failed and will be tried again."}, byWork)
	m.jobBusy = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "promkeep_background_waits_for_transactions", Help: "1 while something cannot be dropped, for a transaction that may read it is still open."}, byWork)
	m.jobLast = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "promkeep_background_last_success_timestamp_seconds", Help: "When all of a kind of background work that was due was last done."}, byWork)
	for _, job := range jobs {
		m.jobSeconds.WithLabelValues(job)
		m.jobFailures.WithLabelValues(job)
		m.jobBusy.WithLabelValues(job)
	}
	m.all = append(m.all, m.jobSeconds, m.jobFailures, m.jobBusy, m.jobLast)
	m.all = append(m.all, m.lastFlush, m.mergeRows, m.backlog.parts, m.backlog.oldest, newTenantMetrics(db))

	gauge("promkeep_retention_pending_days", "Days whose packed rows still hold samples that a retention rule lets go of, though they are in no answer.", func() float64 { return float64(db.retiring.Load()) })
	gauge("promkeep_erase_pending_tombstones", "Series, or whole metrics, of deletions whose samples are still in packed rows, though no longer in answers.", func() float64 { return float64(db.tombstones.Load()) })
	gauge("promkeep_query_held_bytes", "Packed rows, decoded samples and labels of series that queries hold in memory.", func() float64 { return float64(db.queryBytes.Load()) })
	gauge("promkeep_storage_size_bytes", "What all of promkeep's relations take on disk, as last measured.", func() float64 { return float64(db.size.Load()) })
	gauge("promkeep_retention_limit_bytes", "--storage.retention.size; 0 is no limit.", func() float64 { return float64(db.cfg.RetentionSize) })
	gauge("promkeep_retention_limit_seconds", "--storage.retention.time.", func() float64 { return db.cfg.Retention.Seconds() })

	remembered := func() (hits, misses uint64) {
		if db.catalogue != nil {
			hits, misses = db.catalogue.Remembered()
		}
		return hits, misses
	}
	m.all = append(m.all,
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "promkeep_catalogue_search_hits_total", Help: "Searches of series of the past that were answered from memory."},
			func() float64 { hits, _ := remembered(); return float64(hits) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "promkeep_catalogue_search_misses_total", Help: "Searches of series of the past that the database answered."},
			func() float64 { _, misses := remembered(); return float64(misses) }))
	gauge("promkeep_head_series", "Series in memory.", func() float64 { return float64(db.head.Len()) })
	gauge("promkeep_head_unflushed_bytes", "About the memory of samples that wait for a flush.", func() float64 { return float64(db.head.UnflushedBytes()) })
	gauge("promkeep_head_cached_bytes", "Packed rows kept in memory.", func() float64 { return float64(db.head.CachedBytes()) })
	gauge("promkeep_head_covers_from_timestamp_seconds", "Queries from this time on need no database.", func() float64 { return float64(db.head.CoverFrom()) / 1000 })
	gauge("promkeep_log_queued_bytes", "Payload that waits for a commit.", func() float64 {
		if db.log == nil {
			return 0
		}
		return float64(db.log.QueuedBytes())
	})
	gauge("promkeep_log_disk_bytes", "What the log takes on disk, as last measured: also flushed rows, as long as transactions are open that were so at their flush.", func() float64 { return float64(db.logSize.Load()) })
	gauge("promkeep_database_up", "1 while the database takes writes.", func() float64 {
		if db.log == nil || db.log.Err() != nil {
			return 0
		}
		return 1
	})
	reg.MustRegister(m.all...)
	return m
}

func (m *metrics) unregister() {
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) commit(rows, bytes int, took time.Duration) {
	m.commitSeconds.Observe(took.Seconds())
	m.commitRows.Add(float64(rows))
	m.commitBytes.Add(float64(bytes))
}

func (m *metrics) flush(err error, w *chunks.Writer, took time.Duration) {
	if err != nil {
		m.flushFailures.Inc()
		return
	}
	m.flushSeconds.Observe(took.Seconds())
	m.lastFlush.SetToCurrentTime()
	m.flushRows.Add(float64(w.Rows))
	m.flushSamples.Add(float64(w.Samples))
	m.flushBytes.Add(float64(w.Bytes))
}

// job is told of each time that background work was done, or tried.
func (m *metrics) job(name string, took time.Duration, err error) {
	m.jobSeconds.WithLabelValues(name).Add(max(0, took).Seconds())
	waits := 0.0
	switch {
	case err == nil:
		m.jobLast.WithLabelValues(name).SetToCurrentTime()
	case errors.Is(err, chunks.ErrBusy):
		waits = 1
	default:
		m.jobFailures.WithLabelValues(name).Inc()
	}
	m.jobBusy.WithLabelValues(name).Set(waits)
}

func (m *metrics) merge(done chunks.Merged, took time.Duration) {
	m.mergeSeconds.Observe(took.Seconds())
	m.mergeRows.WithLabelValues("in").Add(float64(done.Rows))
	m.mergeRows.WithLabelValues("out").Add(float64(done.RowsOut))
}
