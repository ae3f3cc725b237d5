package promql

import (
	"context"
	"errors"
	"net/http"
	"time"

	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
)

// storageError is a fault below the queriers. The upstream API must take it for promql.ErrStorage, which has no Unwrap, and
// for unavailable when it is a passing one; the only key to errorType unavailable that the API has is tsdb.ErrNotReady.
type storageError struct {
	err         error
	unavailable bool
}

func (e *storageError) Error() string { return e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

func (e *storageError) Is(target error) bool { return e.unavailable && target == tsdb.ErrNotReady }

func (e *storageError) As(target any) bool {
	t, ok := target.(*upstream.ErrStorage)
	if ok {
		t.Err = e.err
	}
	return ok
}

// classify makes of an error of the storage what the upstream API answers with the status the conventions ask for. ctx is
// that of the request; an error that says when to come again is a passing one.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var (
		timeout  upstream.ErrQueryTimeout
		canceled upstream.ErrQueryCanceled
		samples  upstream.ErrTooManySamples
		storage  upstream.ErrStorage
		limit    interface {
			Limit() (name string, bytes int64)
		}
	)
	switch {
	case errors.As(err, &timeout), errors.As(err, &canceled), errors.As(err, &samples), errors.As(err, &storage), errors.As(err, &limit):
		return err
	// A driver wraps the end of its context in errors of its own, or reports a statement the server was asked to cancel.
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return upstream.ErrQueryTimeout("reading the storage")
	case ctx.Err() != nil, errors.Is(err, context.Canceled):
		return upstream.ErrQueryCanceled("reading the storage")
	}
	var passing interface{ RetryAfter() time.Duration }
	return &storageError{err: err, unavailable: errors.As(err, &passing)}
}

// blameStorage makes a fault of the storage of what the engine takes for one of the evaluation: samples that cannot be decoded, which
// shows only when it iterates over them. It is 500 then, as in Prometheus, and not 422; and 503 where it passes.
func blameStorage(err error) error {
	var (
		damage  interface{ Damaged() bool }
		known   upstream.ErrStorage
		passing interface{ RetryAfter() time.Duration }
	)
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.As(err, &passing):
		return &storageError{err: err, unavailable: true}
	case errors.As(err, &damage) && damage.Damaged():
		return &storageError{err: err}
	}
	return err
}

// statusOf is the HTTP status and the errorType of an error from the storage, for handlers of our own.
func statusOf(err error) (int, string) {
	var (
		timeout  upstream.ErrQueryTimeout
		canceled upstream.ErrQueryCanceled
		storage  upstream.ErrStorage
	)
	switch {
	case errors.Is(err, tsdb.ErrNotReady):
		return http.StatusServiceUnavailable, "unavailable"
	case errors.As(err, &timeout):
		return http.StatusServiceUnavailable, "timeout"
	case errors.As(err, &canceled):
		return statusClientClosedConnection, "canceled"
	case errors.As(err, &storage):
		return http.StatusInternalServerError, "internal"
	}
	return http.StatusUnprocessableEntity, "execution"
}

// statusClientClosedConnection is what nginx and Prometheus answer to a client that is no longer there.
const statusClientClosedConnection = 499
