package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
)

// parse returns the settings for all connections to the database.
func parse(cfg Config) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(cfg.URI)
	if err != nil {
		// The error of pgx may quote the URI and so the password.
		return nil, errors.New("the database URI cannot be parsed; it should look like postgres://user:password@host:5432/database")
	}
	pc.MaxConns = cfg.MaxConns
	params := pc.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "promkeep"
	}
	params["synchronous_commit"] = "on"
	params["timezone"] = "UTC"
	params["jit"] = "off"
	// Day ranges are pruned by the planner, which must see the times for that.
	params["plan_cache_mode"] = "force_custom_plan"
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerArrays(conn.TypeMap())
		return nil
	}
	return pc, nil
}

// connect opens a connection, as the pools' are.
func connect(ctx context.Context, pc *pgxpool.Config) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig.Copy())
	if err != nil {
		return nil, err
	}
	return conn, pc.AfterConnect(ctx, conn)
}

// prepare waits until the database answers, and migrates it.
func prepare(ctx context.Context, pc *pgxpool.Config, mode schema.TimescaleDBMode, logger *slog.Logger) (schema.Status, error) {
	began := time.Now()
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		st, err := migrateOnce(ctx, pc.ConnConfig, mode, logger)
		if err == nil {
			return st, nil
		}
		if permanent(err) {
			return st, err
		}
		logger.Warn("the database cannot be reached; trying again", "host", pc.ConnConfig.Host, "port", pc.ConnConfig.Port,
			"database", pc.ConnConfig.Database, "for", time.Since(began).Round(time.Millisecond), "err", err)
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("gave up reaching the database: %w", err)
		case <-time.After(delay):
		}
	}
}

func migrateOnce(ctx context.Context, cc *pgx.ConnConfig, mode schema.TimescaleDBMode, logger *slog.Logger) (schema.Status, error) {
	conn, err := pgx.ConnectConfig(ctx, cc.Copy())
	if err != nil {
		return schema.Status{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return schema.Migrate(ctx, conn, mode, logger)
}

// permanent tells errors that waiting does not mend.
func permanent(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case pgerrcode.IsConnectionException(pg.Code), pgerrcode.IsOperatorIntervention(pg.Code),
			pgerrcode.IsInsufficientResources(pg.Code), pg.Code == pgerrcode.LockNotAvailable:
			return false
		}
		return true
	}
	var connect *pgconn.ConnectError
	return !errors.As(err, &connect) && !pgconn.Timeout(err) && !isNetwork(err)
}
