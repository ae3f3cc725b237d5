package promql

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// maxCardinalityLimit is how many entries a list of /status/tsdb may have, as in Prometheus.
const maxCardinalityLimit = 10_000

const redacted = "<secret>"

var (
	secretName   = regexp.MustCompile(`(?i)(password|passwd|secret|token|credential|api[-_.]?key)`)
	fileName     = regexp.MustCompile(`(?i)[-_.](file|path|dir)$`)
	dsnPassword  = regexp.MustCompile(`(?i)(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&;]+)`)
	userPassword = regexp.MustCompile(`(://[^:/?#\s]*:)[^/?#\s]*@`)
)

// redactFlags hides secrets: the whole value of a flag whose name speaks of one, and passwords inside addresses.
func redactFlags(flags map[string]string) map[string]string {
	out := make(map[string]string, len(flags))
	for name, value := range flags {
		switch {
		case value == "":
		case secretName.MatchString(name) && !fileName.MatchString(name):
			value = redacted
		default:
			value = redactAddress(value)
		}
		out[name] = value
	}
	return out
}

// redactAddress hides the passwords in a URL (also in its query, as PostgreSQL allows) or in a keyword=value DSN. A URL that
// does not parse may hold its password anywhere, so that none of it is shown.
func redactAddress(value string) string {
	if strings.Contains(value, "://") {
		if _, err := url.Parse(value); err != nil {
			return redacted
		}
		value = userPassword.ReplaceAllString(value, "${1}"+redacted+"@")
	}
	return dsnPassword.ReplaceAllString(value, "${1}"+redacted)
}

func (h *handler) statusConfig(w http.ResponseWriter, _ *http.Request) {
	respond(w, map[string]string{"yaml": h.ConfigYAML()})
}

func (h *handler) statusTSDB(w http.ResponseWriter, r *http.Request) {
	if h.Cardinality == nil {
		respondError(w, http.StatusNotImplemented, "internal", "this storage does not count its series")
		return
	}
	limit := 10
	if s := r.FormValue("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 {
			badData(w, "limit must be a positive number")
			return
		}
		if limit > maxCardinalityLimit {
			badData(w, "limit must not exceed "+strconv.Itoa(maxCardinalityLimit))
			return
		}
	}
	stats, err := h.Cardinality.Stats(r.Context(), model.MetricNameLabel, limit)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	out := v1.TSDBStatus{
		// chunkCount stays 0: recent samples lie here as columns, not as chunks.
		HeadStats: v1.HeadStats{NumSeries: stats.NumSeries, MinTime: stats.MinTime, MaxTime: stats.MaxTime},

		SeriesCountByMetricName:     []v1.TSDBStat{},
		LabelValueCountByLabelName:  []v1.TSDBStat{},
		MemoryInBytesByLabelName:    []v1.TSDBStat{},
		SeriesCountByLabelValuePair: []v1.TSDBStat{},
	}
	if p := stats.IndexPostingStats; p != nil {
		out.HeadStats.NumLabelPairs = p.NumLabelPairs
		out.SeriesCountByMetricName = v1.TSDBStatsFromIndexStats(p.CardinalityMetricsStats)
		out.LabelValueCountByLabelName = v1.TSDBStatsFromIndexStats(p.CardinalityLabelStats)
		out.MemoryInBytesByLabelName = v1.TSDBStatsFromIndexStats(p.LabelValueStats)
		out.SeriesCountByLabelValuePair = v1.TSDBStatsFromIndexStats(p.LabelValuePairsStats)
	}
	respond(w, out)
}

func (h *handler) metadata(w http.ResponseWriter, r *http.Request) {
	limit, perMetric := -1, -1
	for _, p := range []struct {
		name string
		to   *int
	}{{"limit", &limit}, {"limit_per_metric", &perMetric}} {
		s := r.FormValue(p.name)
		if s == "" {
			continue
		}
		var err error
		if *p.to, err = strconv.Atoi(s); err != nil {
			badData(w, p.name+" must be a number")
			return
		}
	}
	found := map[string][]metadata.Metadata{}
	// In Prometheus a limit of no families means none, one of no entries per family means all.
	if h.Metadata != nil && limit != 0 {
		if perMetric == 0 {
			perMetric = -1
		}
		var err error
		if found, err = h.Metadata.MetricMetadata(r.Context(), r.FormValue("metric"), limit, perMetric); err != nil {
			h.fail(w, r, err)
			return
		}
		if found == nil {
			found = map[string][]metadata.Metadata{}
		}
	}
	respond(w, found)
}
