package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

func statement(name string) string {
	b, err := sqlFiles.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // a name misspelt in this file
	}
	return string(b)
}

// bootstrap makes the role and the database where they are missing, and brings TimescaleDB into the state asked for.
func (s *Server) bootstrap(ctx context.Context) error {
	err := withConn(ctx, s.DatabaseURI(Superuser, "postgres"), func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, statement("create_role")); err != nil {
			return err
		}
		var there bool
		if err := conn.QueryRow(ctx, statement("database_exists")).Scan(&there); err != nil || there {
			return err
		}
		_, err := conn.Exec(ctx, statement("create_database"))
		return err
	})
	if err != nil {
		return fmt.Errorf("making promkeep's database: %w", err)
	}
	return s.bootstrapTimescale(ctx)
}

func (s *Server) bootstrapTimescale(ctx context.Context) error {
	// The library of the version that the database was left with may be gone after an upgrade: look without loading it.
	look := s.SuperURI() + "&timescaledb.disable_load=on"
	var installed, available string
	err := withConn(ctx, look, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, statement("timescaledb_versions")).Scan(&installed, &available)
	})
	if err != nil {
		return fmt.Errorf("looking for TimescaleDB in promkeep's database: %w", err)
	}
	var change string
	switch {
	case !s.timescale && installed == "":
		return nil
	case !s.timescale && s.opts.TimescaleDB == TimescaleOff:
		return errors.New("promkeep's database uses TimescaleDB " + installed + ": it cannot be opened with TimescaleDB off")
	case !s.timescale:
		return fmt.Errorf("promkeep's database uses TimescaleDB %s, but the PostgreSQL %s in %s does not have it: install it there",
			installed, s.inst.Version, s.inst.BinDir)
	case installed == "":
		change = "create_timescaledb"
	case installed != available:
		change = "update_timescaledb"
	default:
		return nil
	}
	s.log.Info("Bringing TimescaleDB into promkeep's database", "from", installed, "to", available)
	err = withConn(ctx, s.SuperURI(), func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement(change), pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err != nil {
		return fmt.Errorf("bringing TimescaleDB %s into promkeep's database (it has %q): %w", available, installed, err)
	}
	return nil
}

func withConn(ctx context.Context, uri string, do func(*pgx.Conn) error) (err error) {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := conn.Close(ctx); err == nil {
			err = cerr
		}
	}()
	return do(conn)
}
