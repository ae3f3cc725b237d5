package pgtest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// mainRuns is set while M.Run runs: only then is there somebody to stop the shared servers.
var mainRuns atomic.Bool

// Main runs a package's tests, stops the shared servers and exits. Call it from TestMain.
func Main(m *testing.M) { os.Exit(M{M: m}.Run()) }

// M wraps a testing.M for a TestMain that needs more than Main: goleak.VerifyTestMain(pgtest.M{M: m}) looks for leaked
// goroutines after the shared servers were stopped.
type M struct {
	*testing.M

	// Fill, if there is one, makes the databases of Run and New what most tests of the package want to begin with: it is called once for each kind
	// of database, and they are copies of what it leaves, which takes less than filling each of them. With the option Empty, and on servers of
	// NewServer, they come empty.
	Fill func(ctx context.Context, db *DB) error
}

// Run runs the tests, stops the shared servers and returns the exit code.
func (m M) Run() int {
	// Tests that run beside others wait more than they compute. The command line's -parallel counts, if it is given.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	shared.fill = m.Fill
	mainRuns.Store(true)
	code := m.M.Run()
	mainRuns.Store(false)
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	return code
}

// IgnoreServers are the options with which goleak, used within a test, overlooks the goroutines of running servers.
func IgnoreServers() []goleak.Option {
	const pkg = "github.com/promkeep/promkeep/storage/postgres."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(pkg + "(*Server).supervise"),
		goleak.IgnoreAnyFunction(pkg + "(*Server).relaunch.func1"),
		goleak.IgnoreAnyFunction(pkg + "(*logForwarder).run"),
	}
}
