package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/promkeep/promkeep/storage"
)

// front is the HTTP server's handler. Until the storage is open it answers only what does not need it.
type front struct {
	registry *prometheus.Registry
	db       atomic.Pointer[storage.DB]
	api      atomic.Pointer[http.Handler]
}

func newFront(registry *prometheus.Registry) *front { return &front{registry: registry} }

// open lets requests through to the storage.
func (f *front) open(db *storage.DB, api http.Handler) {
	f.api.Store(&api)
	f.db.Store(db)
}

func (f *front) handler(logger *slog.Logger) http.Handler {
	r := chi.NewRouter()
	r.Get("/-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "promkeep is healthy.") })
	r.Head("/-/healthy", func(http.ResponseWriter, *http.Request) {})
	r.Get("/-/ready", f.ready)
	r.Head("/-/ready", f.ready)
	r.Handle("/metrics", promhttp.HandlerFor(f.registry, promhttp.HandlerOpts{Registry: f.registry, EnableOpenMetrics: true,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError)}))
	r.Mount("/debug/pprof", profiles())
	r.NotFound(f.serve)
	r.MethodNotAllowed(f.serve)
	return r
}

// ready is 200 once the log is replayed, while the database takes writes.
func (f *front) ready(w http.ResponseWriter, _ *http.Request) {
	db := f.db.Load()
	switch {
	case db == nil:
		unready(w, isStarting)
	case db.Err() != nil:
		unready(w, db.Err().Error())
	default:
		fmt.Fprintln(w, "promkeep is ready.")
	}
}

const isStarting = "promkeep is starting: the database is being prepared, or the log replayed"

// starting answers a request that comes too early, in the shape that clients of the API read.
func starting(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/api/v1/") {
		unready(w, isStarting)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintf(w, `{"status":"error","errorType":"unavailable","error":%q}`, isStarting)
}

func unready(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, why, http.StatusServiceUnavailable)
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	api := f.api.Load()
	if api == nil {
		starting(w, r)
		return
	}
	(*api).ServeHTTP(w, r)
}

// routes sends writes and what administrates to handlers of their own, all else to query.
func routes(write, query, admin http.Handler) http.Handler {
	r := chi.NewRouter()
	// /write is Promscale's path, /api/v1/push that of Cortex and Mimir.
	for _, path := range []string{"/api/v1/write", "/write", "/api/v1/push"} {
		r.Handle(path, write)
	}
	r.Handle("/api/v1/admin/*", admin)
	r.NotFound(query.ServeHTTP)
	r.MethodNotAllowed(query.ServeHTTP)
	return r
}

func profiles() http.Handler {
	r := chi.NewRouter()
	r.HandleFunc("/cmdline", pprof.Cmdline)
	r.HandleFunc("/profile", pprof.Profile)
	r.HandleFunc("/symbol", pprof.Symbol)
	r.HandleFunc("/trace", pprof.Trace)
	r.HandleFunc("/*", pprof.Index)
	return r
}
