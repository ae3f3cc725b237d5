package schema

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TimescaleDBMode says whether TimescaleDB is used: "auto" where the database has it, "on" or an error, "off" never.
type TimescaleDBMode string

// The modes.
const (
	TimescaleDBAuto TimescaleDBMode = "auto"
	TimescaleDBOn   TimescaleDBMode = "on"
	TimescaleDBOff  TimescaleDBMode = "off"
)

// Edition says which TimescaleDB a database has.
type Edition string

// The editions.
const (
	EditionNone      Edition = ""          // no extension in this database
	EditionApache    Edition = "apache"    // hypertables and drop_chunks
	EditionCommunity Edition = "community" // the columnstore as well
)

// The layouts of the long-term store.
const (
	LayoutPlain       = "plain"
	LayoutTimescaleDB = "timescaledb"
)

func detectTimescaleDB(ctx context.Context, conn *pgx.Conn) (Edition, error) {
	var license *string
	err := conn.QueryRow(ctx, TimescaleDBLicense).Scan(&license)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return EditionNone, nil
	case err != nil:
		return EditionNone, explain(err)
	case license != nil && *license == "timescale":
		return EditionCommunity, nil
	default:
		return EditionApache, nil
	}
}

// ensureLayout creates the long-term store in the layout that fits, once. A store that began on plain PostgreSQL stays
// plain when TimescaleDB is added later: both are read and written by the same queries.
func ensureLayout(ctx context.Context, conn *pgx.Conn, mode TimescaleDBMode, st *Status, logger *slog.Logger) error {
	if mode != TimescaleDBOff && st.TimescaleDB == EditionNone {
		if err := createExtension(ctx, conn, mode, st, logger); err != nil {
			return err
		}
	}
	if st.Layout == LayoutTimescaleDB {
		if st.TimescaleDB == EditionNone {
			return errors.New("the long-term store is a TimescaleDB hypertable, but the extension is missing: install it on the server again")
		}
		return nil
	}
	if st.Layout == LayoutPlain {
		if mode == TimescaleDBOn {
			return errors.New("the long-term store of this database is laid out for plain PostgreSQL: start with --db.timescaledb=auto to go on using it")
		}
		return nil
	}
	st.Layout = LayoutPlain
	if mode != TimescaleDBOff && st.TimescaleDB != EditionNone {
		st.Layout = LayoutTimescaleDB
	}
	logger.Info("creating the long-term store", "layout", st.Layout, "timescaledb", st.TimescaleDB)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		files := []string{layoutPlain}
		if st.Layout == LayoutTimescaleDB {
			files = []string{layoutTimescaleDB}
			if st.TimescaleDB == EditionCommunity {
				files = append(files, layoutTimescaleDBColumnstore)
			}
		}
		for _, sql := range files {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("layout %s: %w", st.Layout, explain(err))
	}
	return nil
}

// createExtension adds TimescaleDB to the database if the server has it and the role may: it often may not, and then
// plain PostgreSQL serves.
func createExtension(ctx context.Context, conn *pgx.Conn, mode TimescaleDBMode, st *Status, logger *slog.Logger) error {
	if st.Layout == "" {
		var available, loaded bool
		if err := conn.QueryRow(ctx, TimescaleDBAvailable).Scan(&available, &loaded); err != nil {
			return explain(err)
		}
		switch {
		case available && loaded:
			_, err := conn.Exec(ctx, TimescaleDBCreate)
			if err == nil {
				st.TimescaleDB, err = detectTimescaleDB(ctx, conn)
				return err
			}
			var pg *pgconn.PgError
			if !errors.As(err, &pg) {
				return err
			}
			if mode == TimescaleDBOn {
				return fmt.Errorf("--db.timescaledb=on, but the extension cannot be created: %w: run CREATE EXTENSION timescaledb as a superuser in this database", err)
			}
		case available && mode == TimescaleDBOn:
			return errors.New("--db.timescaledb=on, but the server does not load TimescaleDB, whose files it has: set shared_preload_libraries = 'timescaledb' in postgresql.conf, and restart it")
		case available:
			logger.Warn("the server has TimescaleDB's files and does not load it: the store is laid out for plain PostgreSQL, and stays so; for TimescaleDB set shared_preload_libraries = 'timescaledb' before the first start")
		}
	}
	if mode == TimescaleDBOn && st.TimescaleDB == EditionNone {
		return errors.New("--db.timescaledb=on, but this database has no TimescaleDB: install it on the server and run CREATE EXTENSION timescaledb")
	}
	return nil
}

// Expand fills the {{name}} places of a query that names a relation, which no parameter can. Values are numbers.
func Expand(sql string, place string, value int64) string {
	return strings.ReplaceAll(sql, "{{"+place+"}}", fmt.Sprint(value))
}

const (
	// importRate is how many samples a second "promkeep import remote-read" brought over, on two cores that other work shared: 10 million in 13.5 s
	// (docs/performance.md, "Import"). Of that promkeep import itself takes importCPU a sample.
	importRate = 10e6 / 13.5
	importCPU  = 130 * time.Nanosecond
)

// Advice says what an operator could change, or nothing.
func (st Status) Advice() string {
	if st.Layout != LayoutPlain || st.TimescaleDB == EditionNone {
		return ""
	}
	gains := "the columnstore, which takes another 2 % off the samples"
	if st.TimescaleDB == EditionApache {
		gains = "hypertables; this edition has no columnstore, so there is nothing to win"
	}
	took := time.Duration(float64(st.PlainSamples) / importRate * float64(time.Second))
	return fmt.Sprintf(`
This database has TimescaleDB, but its long-term store began on plain PostgreSQL and stays there: everything works, without %s.
A dump of it can only be restored into the same layout. To convert it: make a new database that has the extension,
point a second promkeep and then the senders to it, and copy the history over while both serve, each tenant by itself:

    promkeep import remote-read --db.uri=<the new database> http://<this promkeep>/api/v1/read

That would take, by the database's own size and what was measured elsewhere:

    to move    %d samples in %d packed rows
    time       about %s, at %.1f million samples a second; the import uses %s of CPU, the two databases and this promkeep theirs
    space      %.1f GB more until it is done, as much as all of promkeep's relations take now, and a few GB of WAL

Exemplars and metadata do not move. Then drop this database.`,
		gains, st.PlainSamples, st.PlainRows, roughly(took), importRate/1e6, roughly(time.Duration(st.PlainSamples)*importCPU), float64(st.PlainBytes)/1e9)
}

// roughly rounds a time that is an estimate: to minutes, and from an hour on to two figures.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", (d+30*time.Second)/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", (d+30*time.Minute)/time.Hour)
	default:
		return fmt.Sprintf("%d days", (d+12*time.Hour)/(24*time.Hour))
	}
}
