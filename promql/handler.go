package promql

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/httputil"
)

const apiPrefix = "/api/v1"

// handler holds what the handlers of our own need.
type handler struct {
	Options
	queryable storage.SampleAndChunkQueryable // the guarded one
	cors      *regexp.Regexp
	lookups   *Limiter
	reads     *Limiter
}

// NewHandler serves the read side of Prometheus' HTTP API: /api/v1/… but for what writes, the TSDB admin APIs, /federate, and
// remote read at /api/v1/read and /read. Any other path is 404. The tenant, if there are any, is expected in the context of the
// request, and the storage to be ready.
func NewHandler(opts Options) (http.Handler, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	cors, err := regexp.Compile("^(?:" + opts.CORSOrigin + ")$")
	if err != nil {
		return nil, fmt.Errorf("--web.cors.origin: %w", err)
	}
	engine := opts.Engine.opts
	h := &handler{
		Options:   opts,
		queryable: &guard{opts.Queryable},
		cors:      cors,
		lookups:   NewLimiter("lookups", engine.MaxConcurrency, engine.MaxQueued, opts.Registerer),
		reads:     NewLimiter("remote reads", opts.ReadConcurrentLimit, engine.MaxQueued, opts.Registerer),
	}
	return h.router(), nil
}

func (h *handler) router() http.Handler {
	api := newUpstreamAPI(h.Options, h.queryable, &guardedExemplars{h.Exemplars}, h.cors)
	measure := h.instrument()

	r := chi.NewRouter()
	r.Use(h.protect, h.preflight(api), h.budgeted)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		respondError(w, http.StatusNotFound, "not_found", "no such path: "+r.URL.Path)
	})
	r.Group(func(r chi.Router) {
		r.Use(h.bounded)
		for _, route := range upstreamRoutes {
			var serve http.Handler = api
			if isLookup(route.path) {
				serve = h.limited(api)
			}
			serve = measure(apiPrefix+route.path, serve)
			for method := range strings.FieldsSeq(route.methods) {
				r.Method(method, apiPrefix+route.path, serve)
			}
		}
		for path, serve := range map[string]http.HandlerFunc{
			"/metadata":      h.metadata,
			"/status/config": h.statusConfig,
			"/status/tsdb":   h.statusTSDB,
		} {
			r.Method(http.MethodGet, apiPrefix+path, measure(apiPrefix+path, h.wrap(serve)))
		}
		h.adminRoutes(r, measure)
		r.Method(http.MethodGet, "/federate",
			measure("/federate", h.limited(httputil.CompressionHandler{Handler: http.HandlerFunc(h.federate)})))
	})
	// No compression: the bodies are, or consist of, compressed bytes.
	read := measure(apiPrefix+"/read", http.HandlerFunc(h.read))
	r.Method(http.MethodPost, apiPrefix+"/read", read)
	r.Method(http.MethodPost, "/read", read)
	return r
}

// isLookup tells what asks for labels and so does not pass the engine's queue.
func isLookup(path string) bool {
	switch path {
	case "/series", "/labels", "/label/{name}/values", "/query_exemplars":
		return true
	}
	return false
}

// bounded refuses requests with more text than any query needs, before it is parsed.
func (h *handler) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, h.MaxRequestBytes)
		// Parses what FormValue parses, but reports errors, and keeps the body in memory up to the bound above.
		err := r.ParseForm()
		if err == nil {
			err = r.ParseMultipartForm(h.MaxRequestBytes)
		}
		if err != nil && !errors.Is(err, http.ErrNotMultipart) {
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				respondError(w, http.StatusRequestEntityTooLarge, "bad_data", err.Error())
				return
			}
			badData(w, "error parsing form values: "+err.Error())
			return
		}
		length := len(r.Form.Get("query"))
		for _, m := range r.Form["match[]"] {
			length += len(m)
		}
		if length > h.MaxQueryLength {
			badData(w, fmt.Sprintf("the query has %d bytes, at most %d are allowed", length, h.MaxQueryLength))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// budgeted bounds the memory of a request, whatever it reads.
func (h *handler) budgeted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(h.Budget(r.Context())))
	})
}

// limited lets as many of the requests run at once as queries may.
func (h *handler) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.lookups.Acquire(r.Context()); err != nil {
			httputil.SetCORS(w, h.cors, r)
			h.fail(w, r, err)
			return
		}
		defer h.lookups.Release()
		next.ServeHTTP(w, r)
	})
}

// wrap gives a handler of our own what upstream's have.
func (h *handler) wrap(next http.HandlerFunc) http.Handler {
	return httputil.CompressionHandler{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httputil.SetCORS(w, h.cors, r)
		next(w, r)
	})}
}

// fail answers an error of the storage or of a limiter.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, errorType := statusOf(classify(r.Context(), err))
	respondError(w, status, errorType, err.Error())
}

// protect makes an answer of a panic, and gives every 503 a Retry-After, whoever answers it.
func (h *handler) protect(next http.Handler) http.Handler {
	seconds := strconv.Itoa(max(int(h.RetryAfter.Seconds()), 1))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &responseWriter{ResponseWriter: rw, retryAfter: seconds}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p != http.ErrAbortHandler {
				h.Logger.Error("a request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			}
			if w.begun || p == http.ErrAbortHandler {
				panic(http.ErrAbortHandler) // Cuts the connection, so that what was sent does not look whole.
			}
			w.Header().Del("Content-Encoding")
			respondError(w, http.StatusInternalServerError, "internal", "the server failed to answer; its log says why")
		}()
		next.ServeHTTP(w, r)
	})
}

// preflight answers what browsers ask first. It stands in front of the routes: a route for the method on all paths would
// turn unknown ones from 404 into 405.
func (h *handler) preflight(api http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodOptions && strings.HasPrefix(r.URL.Path, apiPrefix+"/") {
				api.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

type responseWriter struct {
	http.ResponseWriter
	retryAfter string
	begun      bool
}

func (w *responseWriter) WriteHeader(status int) {
	w.begun = true
	if status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", w.retryAfter)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Flush is what streamed answers ask their writer for.
func (w *responseWriter) Flush() { http.NewResponseController(w.ResponseWriter).Flush() } //nolint:errcheck

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// instrument measures how long requests take, by path and status.
func (h *handler) instrument() func(path string, next http.Handler) http.Handler {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                            "promkeep_read_request_duration_seconds",
		Help:                            "How long requests of the query side took, waiting included.",
		Buckets:                         []float64{.005, .025, .1, .25, 1, 2.5, 10, 60, 120},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: 3600e9,
	}, []string{"handler", "code"})
	if h.Registerer != nil {
		h.Registerer.MustRegister(duration)
	}
	return func(path string, next http.Handler) http.Handler {
		return promhttp.InstrumentHandlerDuration(duration.MustCurryWith(prometheus.Labels{"handler": path}), next)
	}
}
