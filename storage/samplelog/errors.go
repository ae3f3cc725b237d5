package samplelog

import "errors"

// The errors exposed.
var (
	// ErrUnavailable means that the database is away or refused the commit. The outcome may be unknown: the samples may
	// turn up, and a retry changes no answer.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrOverloaded means that more bytes wait for a commit than the configured bound.
	ErrOverloaded = errors.New("the log's queue is full")
	// ErrFenced means that another promkeep has led this database in between: this process must start anew.
	ErrFenced = errors.New("another promkeep has taken over this database")
	// ErrClosed means that the log has been closed.
	ErrClosed = errors.New("the log is closed")
)
