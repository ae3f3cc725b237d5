package promql

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.M{M: m}, pgtest.IgnoreServers()...)
}
