package storage

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/promkeep/promkeep/storage/samplelog"
)

// The errors exposed. Those of a passing fault say with RetryAfter when to come again.
var (
	// ErrUnavailable means that the database is away. Nothing was acknowledged; a retry changes no answer.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrOverloaded means that a bound of bytes in flight or in memory is reached.
	ErrOverloaded = errors.New("too much is in flight")
	// ErrNotReady means that the log is still being replayed.
	ErrNotReady = errors.New("promkeep is starting")
	// ErrFenced means that another promkeep serves the database now, and this one must end.
	ErrFenced = samplelog.ErrFenced
)

// retryable is a passing fault.
type retryable struct {
	kind, cause error
	after       time.Duration
}

func (e *retryable) Error() string {
	if e.cause == nil {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.cause.Error()
}

func (e *retryable) Unwrap() []error { return []error{e.kind, e.cause} }

// RetryAfter is how long a client should wait.
func (e *retryable) RetryAfter() time.Duration { return e.after }

// unavailable is a fault of the database, unless it was the query that ended what was asked of it.
func unavailable(cause error) error {
	if budget := new(*BudgetError); errors.As(cause, budget) {
		return cause
	}
	return &retryable{kind: ErrUnavailable, cause: cause, after: 5 * time.Second}
}

func overloaded(what string) error {
	return &retryable{kind: ErrOverloaded, cause: errors.New(what), after: time.Second}
}

func isNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
