package adapter

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
)

// WriteHandler takes remote write 1.0 and 2.0
// (https://prometheus.io/docs/specs/prw/remote_write_spec/, https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/).
//
// It answers 204 when everything is durable; 400 when something is invalid, which the body names, and the rest is durable;
// 401 and 403 without a tenant where one is needed; 405, 413 and 415; 429 for a limit of the tenant that passes, and 503 with
// Retry-After when the store is away or too much is in flight.
type WriteHandler struct {
	store   Store
	opts    Options
	budget  budget
	metrics *writeMetrics
	dropped droppedKeys
	rates   rates
}

// NewWriteHandler returns the handler for /api/v1/write and its aliases.
func NewWriteHandler(store Store, opts Options) *WriteHandler {
	opts.setDefaults()
	h := &WriteHandler{store: store, opts: opts}
	h.budget.limit = opts.Limits.InFlightBytes
	h.metrics = newWriteMetrics(opts.Registerer, &h.budget)
	return h
}

// ServeHTTP implements http.Handler.
func (h *WriteHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rq := newRequest(&h.budget)
	defer rq.release()
	f := h.serve(w, r, rq)
	code := http.StatusNoContent
	if f != nil {
		code = f.code
		h.metrics.failed[f.why].Inc()
	}
	h.count(rq)
	h.answer(w, rq, f)
	h.metrics.answered(rq.protocol, code, time.Since(began))
	if f != nil {
		h.opts.Logger.DebugContext(r.Context(), "remote write refused", "code", code, "protocol", rq.protocol.String(), "from", r.RemoteAddr, "reason", f.text)
	}
}

func (h *WriteHandler) serve(w http.ResponseWriter, r *http.Request, rq *request) *failure {
	refuse := func(code int, why why, err error) *failure {
		return &failure{code: code, why: why, text: err.Error(), unread: true}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, whyMethod, errors.New("remote write is a POST"))
	}
	var err error
	if rq.protocol, err = protocolOf(r.Header); err != nil {
		return refuse(http.StatusUnsupportedMediaType, whyProtocol, err)
	}
	if err := checkEncoding(r.Header); err != nil {
		return refuse(http.StatusUnsupportedMediaType, whyProtocol, err)
	}
	tenant, err := h.opts.Tenancy.Writer(r)
	if err != nil {
		code := http.StatusInternalServerError
		var e *tenancy.Error
		if errors.As(err, &e) {
			code = e.Code
		}
		return refuse(code, whyTenant, err)
	}
	if f := h.read(w, r, rq); f != nil {
		return f
	}
	limits := h.limits(tenant)
	if f := h.takeRate(tenant, 0, limits); f != nil {
		return f // before it costs more than its reading
	}
	if f := h.decompress(rq); f != nil {
		return f
	}
	return h.write(r.Context(), rq, tenant, limits)
}

// write stores what is good of the decompressed request.
func (h *WriteHandler) write(ctx context.Context, rq *request, tenant string, limits TenantLimits) *failure {
	rq.d = &rq.v1
	if rq.protocol == protocolV2 {
		rq.d = &rq.v2
	}
	if err := rq.d.Reset(rq.decoded); err != nil {
		return fail(http.StatusBadRequest, whyMalformed, "%v", err)
	}
	if table := int64(rq.v2.TableBytes()); rq.protocol == protocolV2 && !rq.take(table) {
		return h.overloaded(rq, table)
	}
	rq.minTime, rq.maxTime = max(h.store.MinTime(), 0), maxTimestamp
	if h.opts.MaxFuture >= 0 {
		rq.maxTime = min(rq.maxTime, h.opts.Now().Add(h.opts.MaxFuture).UnixMilli())
	}
	batch, err := h.store.NewBatch(ctx, tenant)
	if err != nil {
		return storeFailure(err)
	}
	defer batch.Release()
	rq.batch = batch
	if b, ok := batch.(SeriesLimiter); ok && limits.ActiveSeries > 0 {
		b.LimitSeries(limits.ActiveSeries)
	}

	if err := h.ingest(rq); err != nil {
		rq.seen, rq.written, rq.refused, rq.dropped = [kinds]int{}, [kinds]int{}, [reasons]int{}, [2]int{}
		if rq.full {
			return h.overloaded(rq, rq.grown-rq.reserved)
		}
		return fail(http.StatusBadRequest, whyMalformed, "%v; nothing of the request was stored", err)
	}
	if rq.d.Foreign() {
		return fail(http.StatusBadRequest, whyMalformed, "the request has no time series of remote write %s, as which its Content-Type declares it, but looks like the other version",
			rq.protocol)
	}
	n := rq.written[floats] + rq.written[histograms] + rq.written[exemplars]
	if f := h.takeRate(tenant, n, limits); f != nil {
		rq.written, rq.refused, rq.problem = [kinds]int{}, [reasons]int{}, 0 // they come again
		return f
	}
	if err := batch.Commit(ctx); err != nil {
		h.rates.give(tenant, n)
		rq.written = [kinds]int{}
		return storeFailure(err)
	}
	h.refuseSeries(rq, tenant, limits)
	if rq.problem > 0 {
		return &failure{code: http.StatusBadRequest, why: whySamples, text: rq.answer()}
	}
	return nil
}

// storeFailure is the answer to an error of the store.
func storeFailure(err error) *failure {
	f := &failure{code: http.StatusInternalServerError, why: whyInternal, text: err.Error()}
	var l limited
	if errors.As(err, &l) {
		f.code, f.why = http.StatusBadRequest, whyLimit
		f.text = err.Error() + " (" + l.LimitExceeded() + ")"
	}
	var r retryable
	if errors.As(err, &r) {
		f.after = max(r.RetryAfter(), time.Second)
		switch {
		case l != nil:
			f.code = http.StatusTooManyRequests
		case errors.Is(err, storage.ErrOverloaded):
			f.code, f.why = http.StatusServiceUnavailable, whyOverloaded
		default:
			f.code, f.why = http.StatusServiceUnavailable, whyUnavailable
		}
	} else if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		f.code, f.why, f.after = http.StatusServiceUnavailable, whyUnavailable, time.Second
	}
	return f
}

// count adds what was in the request to the metrics.
func (h *WriteHandler) count(rq *request) {
	for k, n := range rq.seen {
		if n > 0 {
			h.metrics.received[rq.protocol][k].Add(float64(n))
		}
	}
	if rq.problem > 0 {
		for r, n := range rq.refused {
			if n > 0 {
				h.metrics.refused[r].Add(float64(n))
			}
		}
	}
	for i, n := range rq.dropped {
		if n > 0 {
			h.metrics.dropped[i].Add(float64(n))
		}
	}
}

var writtenHeaders = [kinds]string{
	floats:     "X-Prometheus-Remote-Write-Samples-Written",
	histograms: "X-Prometheus-Remote-Write-Histograms-Written",
	exemplars:  "X-Prometheus-Remote-Write-Exemplars-Written",
}

func (h *WriteHandler) answer(w http.ResponseWriter, rq *request, f *failure) {
	header := w.Header()
	if rq.protocol == protocolV2 {
		for k, name := range writtenHeaders {
			header.Set(name, strconv.Itoa(rq.written[k]))
		}
	}
	if f == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if f.after > 0 {
		header.Set("Retry-After", retryAfter(f.after))
	}
	if f.unread {
		header.Set("Connection", "close") // or the server waits for the rest of the body
	}
	w.WriteHeader(f.code)
	_, _ = io.WriteString(w, f.text) // a client that is gone needs no answer
}
