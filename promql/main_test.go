package promql

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

func TestMain(m *testing.M) {
	migrate := func(ctx context.Context, pg *pgtest.DB) error {
		_, err := storage.Migrate(ctx, storage.Config{URI: pg.URI, Logger: slog.New(slog.DiscardHandler)})
		return err
	}
	goleak.VerifyTestMain(pgtest.M{M: m, Fill: migrate}, pgtest.IgnoreServers()...)
}
