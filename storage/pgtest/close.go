package pgtest

import (
	"runtime"
	"testing"
	"time"
)

// closeTimeout is more than closing anything takes on a slow machine.
const closeTimeout = 2 * time.Minute

// Close lets fn close something at the end of a test. What has not closed within two minutes is left to itself, and the test fails with
// the stacks of all goroutines: one that failed while it held a lock or a connection must not hold up all the others.
func Close(t testing.TB, what string, fn func()) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		fn()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		stacks := make([]byte, 1<<20)
		t.Errorf("%s has not closed within %v:\n%s", what, closeTimeout, stacks[:runtime.Stack(stacks, true)])
	}
}
