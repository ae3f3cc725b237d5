package promql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/prometheus/model/labels"
)

// AdminStore deletes.
type AdminStore interface {
	// Delete erases the samples in [mint, maxt] (ms) of the series of the context's tenant that match one of the sets of matchers, at
	// once for all readers.
	Delete(ctx context.Context, mint, maxt int64, sets ...[]*labels.Matcher) error
	// CleanTombstones takes what was deleted off the disk now, and not only in the course of the background work.
	CleanTombstones(ctx context.Context) error
}

// adminRoutes are Prometheus' TSDB admin APIs, see https://prometheus.io/docs/prometheus/latest/querying/api/#tsdb-admin-apis.
func (h *handler) adminRoutes(r chi.Router, measure func(path string, next http.Handler) http.Handler) {
	for path, serve := range map[string]http.HandlerFunc{
		"/admin/tsdb/delete_series":    h.deleteSeries,
		"/admin/tsdb/clean_tombstones": h.cleanTombstones,
		"/admin/tsdb/snapshot":         h.snapshot,
	} {
		serve := measure(apiPrefix+path, h.wrap(func(w http.ResponseWriter, r *http.Request) {
			if h.Admin == nil {
				respondError(w, http.StatusServiceUnavailable, "unavailable", "admin APIs disabled")
				return
			}
			serve(w, r)
		}))
		r.Method(http.MethodPost, apiPrefix+path, serve)
		r.Method(http.MethodPut, apiPrefix+path, serve)
	}
}

func (h *handler) deleteSeries(w http.ResponseWriter, r *http.Request) {
	if len(r.Form["match[]"]) == 0 {
		badData(w, "no match[] parameter provided")
		return
	}
	mint, err := timeParam(r.Form, "start", math.MinInt64)
	if err != nil {
		badData(w, err.Error())
		return
	}
	maxt, err := timeParam(r.Form, "end", math.MaxInt64)
	if err != nil {
		badData(w, err.Error())
		return
	}
	// All are read before anything is deleted.
	var sets [][]*labels.Matcher
	for _, text := range r.Form["match[]"] {
		ms, err := h.Engine.Parser.ParseMetricSelector(text)
		if err != nil {
			badData(w, fmt.Sprintf("invalid parameter %q: %s", "match[]", err))
			return
		}
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			badData(w, "match[] must contain at least one non-empty matcher")
			return
		}
		sets = append(sets, ms)
	}
	if err := h.Admin.Delete(r.Context(), mint, maxt, sets...); err != nil {
		h.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *handler) cleanTombstones(w http.ResponseWriter, r *http.Request) {
	if err := h.Admin.CleanTombstones(r.Context()); err != nil {
		h.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// snapshot is not for a store whose files are those of a database.
func (h *handler) snapshot(w http.ResponseWriter, _ *http.Request) {
	respondError(w, http.StatusUnprocessableEntity, "execution",
		"promkeep keeps nothing outside of PostgreSQL: back up the database instead, see docs/operations.md")
}

// timeParam reads a time as Prometheus' API does: seconds since 1970, RFC 3339, or one of the two strings that stand for the ends of time.
// The result is in ms.
func timeParam(form url.Values, name string, otherwise int64) (int64, error) {
	text := form.Get(name)
	switch text {
	case "":
		return otherwise, nil
	case "-292273086-05-16T16:47:06Z":
		return math.MinInt64, nil
	case "292277025-08-18T07:12:54.999999999Z":
		return math.MaxInt64, nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(seconds) {
		ms := math.Round(seconds * 1000)
		switch {
		case ms >= math.MaxInt64:
			return math.MaxInt64, nil
		case ms <= math.MinInt64:
			return math.MinInt64, nil
		}
		return int64(ms), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UnixMilli(), nil
	}
	return 0, fmt.Errorf("invalid parameter %q: %w", name, errors.New("cannot parse \""+text+"\" to a valid timestamp"))
}
