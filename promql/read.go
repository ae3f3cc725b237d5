package promql

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/annotations"
)

// framePool holds the buffers that frames are marshalled into.
var framePool sync.Pool

// read answers remote read, specified at https://prometheus.io/docs/specs/prw/remote_read_api/. Upstream's handler would do
// but for its errors: to it every fault of the storage is a 500 in plain text, at the end of a stream already begun even
// inside it, and its queue has no end. The parts it is made of are upstream's.
func (h *handler) read(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if err := h.reads.Acquire(ctx); err != nil {
		h.failRead(ctx, w, err)
		return
	}
	defer h.reads.Release()

	req, err := remote.DecodeReadRequest(r) // bounds both the body and what it decodes to
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind, err := remote.NegotiateResponseType(req.AcceptedResponseTypes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	queries := make([]readQuery, len(req.Queries))
	for i, q := range req.Queries {
		if queries[i], err = newReadQuery(q); err != nil {
			http.Error(w, fmt.Sprintf("query %d: %v", i, err), http.StatusBadRequest)
			return
		}
	}
	if kind == prompb.ReadRequest_STREAMED_XOR_CHUNKS {
		h.readChunks(ctx, w, queries)
	} else {
		h.readSamples(ctx, w, queries)
	}
}

func (h *handler) failRead(ctx context.Context, w http.ResponseWriter, err error) {
	w.Header().Del("Content-Encoding")
	status, _ := statusOf(classify(ctx, err))
	var httpErr remote.HTTPError // ours to tell the client: the sample limit
	if errors.As(err, &httpErr) {
		status = httpErr.Status()
	}
	http.Error(w, err.Error(), status)
}

// readSamples answers with one message, of at most ReadSampleLimit samples over all queries.
func (h *handler) readSamples(ctx context.Context, w http.ResponseWriter, queries []readQuery) {
	resp := prompb.ReadResponse{Results: make([]*prompb.QueryResult, len(queries))}
	left := h.ReadSampleLimit
	for i, q := range queries {
		if left <= 0 {
			http.Error(w, fmt.Sprintf("exceeded sample limit (%d)", h.ReadSampleLimit), http.StatusBadRequest)
			return
		}
		result, warnings, err := func() (*prompb.QueryResult, annotations.Annotations, error) {
			querier, err := h.queryable.Querier(q.mint, q.maxt)
			if err != nil {
				return nil, nil, err
			}
			defer querier.Close()
			return remote.ToQueryResult(querier.Select(ctx, true, q.hints, q.matchers...), left)
		}()
		if err != nil {
			h.failRead(ctx, w, err)
			return
		}
		h.logWarnings(warnings)
		for _, series := range result.Timeseries {
			left -= len(series.Samples) + len(series.Histograms)
		}
		resp.Results[i] = result
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set("Content-Encoding", "snappy")
	if err := remote.EncodeReadResponse(&resp, w); err != nil {
		h.Logger.Debug("remote read: the client went away", "err", err)
	}
}

// readChunks streams frames of at most about ReadMaxBytesInFrame bytes, each of one series.
func (h *handler) readChunks(ctx context.Context, w http.ResponseWriter, queries []readQuery) {
	flusher, ok := w.(http.Flusher)
	if !ok {
		http.Error(w, "the connection cannot be streamed to", http.StatusInternalServerError)
		return
	}
	out := &countingWriter{ResponseWriter: w}
	stream := remote.NewChunkedWriter(out, flusher)
	w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
	for i, q := range queries {
		warnings, err := func() (annotations.Annotations, error) {
			querier, err := h.queryable.ChunkQuerier(q.mint, q.maxt)
			if err != nil {
				return nil, err
			}
			defer querier.Close()
			// The protocol asks for sorted series.
			set := plainChunkSet{querier.Select(ctx, true, q.hints, q.matchers...)}
			return remote.StreamChunkedReadResponses(stream, int64(i), set, nil, h.ReadMaxBytesInFrame, &framePool)
		}()
		h.logWarnings(warnings)
		if err == nil {
			continue
		}
		if out.n == 0 {
			h.failRead(ctx, w, err)
			return
		}
		// A stream has no place for an error. Cutting it off is what a client cannot take for its end.
		h.Logger.Warn("remote read: the stream is broken off", "err", err)
		panic(http.ErrAbortHandler)
	}
}

func (h *handler) logWarnings(warnings annotations.Annotations) {
	for _, w := range warnings {
		h.Logger.Warn("remote read", "warning", w.Error())
	}
}

// countingWriter knows whether anything of the answer is on its way.
type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

type readQuery struct {
	mint, maxt int64
	hints      *storage.SelectHints
	matchers   []*labels.Matcher
}

func newReadQuery(q *prompb.Query) (readQuery, error) {
	matchers, err := remote.FromLabelMatchers(q.Matchers)
	if err != nil {
		return readQuery{}, err
	}
	out := readQuery{mint: q.StartTimestampMs, maxt: q.EndTimestampMs, matchers: matchers}
	if h := q.Hints; h != nil {
		out.hints = &storage.SelectHints{
			Start:    h.StartMs,
			End:      h.EndMs,
			Step:     h.StepMs,
			Func:     h.Func,
			Grouping: h.Grouping,
			By:       h.By,
			Range:    h.RangeMs,
		}
	}
	return out, nil
}
