package pgtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/storage/postgres"
)

// opTimeout bounds everything this package itself does on a running server.
const opTimeout = time.Minute

// The reasons of skipped tests.
const (
	noTimescale = "TimescaleDB is not in this server's library directory"
	noNewest    = "no PostgreSQL 18 here: make deps-newest gets its binaries from npm, or PROMKEEP_TEST_PG18_BIN names them"
)

// newestMajor is the newest PostgreSQL that promkeep is meant for.
const newestMajor = 18

// edition is the kind of a database.
type edition int

const (
	plain edition = iota
	timescale
	timescaleApache
)

// DB is a fresh database, dropped when its test ends. It is empty, unless M.Fill says otherwise.
type DB struct {
	Name     string
	URI      string // as the database's owner, an ordinary role
	SuperURI string // as superuser; for what the test itself looks at or breaks, not for the code under test
	Major    int    // PostgreSQL's major version, such as 15

	HasTimescaleDB bool // the extension is installed in the database
	ApacheOnly     bool // of TimescaleDB only what its Apache licence covers works

	Server *Server // the server it is in; do not stop or kill one that was not made by NewServer
}

// Run runs the body as one subtest per kind of database: "postgres-15" and so on for each installed server,
// "timescaledb", and with AllEditions "timescaledb-apache". Subtests on servers without TimescaleDB, and those on the newest
// PostgreSQL where there is none, are skipped and say so. With -short only one server is used.
//
// All kinds are tested at the same time, unless OneByOne is given, and after what else the test does: Run comes last in a test.
func Run(t *testing.T, body func(t *testing.T, db *DB), opts ...Option) {
	t.Helper()
	o := collect(opts)
	installations := installed(t)
	if testing.Short() {
		installations = installations[:1]
	}
	run := func(name string, inst postgres.Installation, ed edition) {
		t.Run(name, func(t *testing.T) {
			if !o.oneByOne {
				t.Parallel()
			}
			body(t, sharedDB(t, inst, ed, o.empty))
		})
	}
	withTimescale := 0
	for _, inst := range installations {
		run(fmt.Sprintf("postgres-%d", inst.Major), inst, plain)
	}
	for _, inst := range installations {
		if !inst.HasTimescaleDB {
			continue
		}
		suffix := ""
		if withTimescale++; withTimescale > 1 {
			suffix = fmt.Sprintf("-on-%d", inst.Major)
		}
		run("timescaledb"+suffix, inst, timescale)
		if o.allEditions {
			run("timescaledb-apache"+suffix, inst, timescaleApache)
		}
	}
	if !testing.Short() && !slices.ContainsFunc(installations, func(i postgres.Installation) bool { return i.Major >= newestMajor }) {
		t.Run(fmt.Sprintf("postgres-%d", newestMajor), func(t *testing.T) { t.Skip(noNewest) })
	}
	if withTimescale == 0 {
		t.Run("timescaledb", func(t *testing.T) { t.Skip(noTimescale) })
	}
}

// New returns a fresh database without extensions on the default server, or what the options ask for.
func New(t testing.TB, opts ...Option) *DB {
	t.Helper()
	o := collect(opts)
	for _, inst := range installed(t) {
		if o.edition == plain || inst.HasTimescaleDB {
			return sharedDB(t, inst, o.edition, o.empty)
		}
	}
	t.Skip(noTimescale)
	return nil
}

func sharedDB(t testing.TB, inst postgres.Installation, ed edition, empty bool) *DB {
	t.Helper()
	if !mainRuns.Load() {
		t.Fatal("pgtest: shared servers need somebody to stop them: add func TestMain(m *testing.M) { pgtest.Main(m) }")
	}
	s, err := shared.server(inst, ed == timescaleApache)
	if err != nil {
		t.Fatalf("pgtest: %s", err)
	}
	template := ed.template()
	if shared.fill != nil && !empty {
		if template, err = s.filledTemplate(ed, shared.fill); err != nil {
			t.Fatalf("pgtest: making a template database: %s", err)
		}
	}
	return s.newDB(t, ed, template)
}

// template is the database of which empty ones are copies.
func (ed edition) template() string {
	if ed == plain {
		return "template0"
	}
	return timescaleTemplate
}

// installed are the servers on the machine, the default one first.
func installed(t testing.TB) []postgres.Installation {
	t.Helper()
	list, err := installations()
	if err != nil {
		t.Fatalf("run make deps: %s", err)
	}
	return list
}

var databaseNumber atomic.Uint64

// newDB makes a database on a running server.
func (s *Server) newDB(t testing.TB, ed edition, template string) *DB {
	t.Helper()
	db := s.db(ed, fmt.Sprintf("test_%d_%d", os.Getpid(), databaseNumber.Add(1)))
	if err := s.exec(copyOf(template, db.Name)); err != nil {
		t.Fatalf("pgtest: making a database: %s", err)
	}
	t.Cleanup(func() {
		if s.down() {
			return // the test stopped its server: nothing to drop it from
		}
		if err := s.exec(fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", db.Name)); err != nil {
			t.Errorf("pgtest: dropping the test's database: %s", err)
		}
	})
	return db
}

// db describes a database on this server.
func (s *Server) db(ed edition, name string) *DB {
	return &DB{
		Name: name, URI: s.uri("promkeep", name), SuperURI: s.uri(postgres.Superuser, name), Major: s.inst.Major,
		HasTimescaleDB: ed != plain, ApacheOnly: ed != plain && s.apache, Server: s,
	}
}

func copyOf(template, name string) string {
	return fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER promkeep", name, template)
}

// exec runs statements, each in a transaction of its own, as superuser.
func (s *Server) exec(sql ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	return execAt(ctx, s.uri(postgres.Superuser, "postgres"), sql...)
}

func execAt(ctx context.Context, uri string, sql ...string) error {
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, stmt := range sql {
		if _, err := conn.Exec(ctx, stmt, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(stmt), err)
		}
	}
	return nil
}

// Pool returns a connection pool to the database as its owner, closed when the test ends.
func (db *DB) Pool(t testing.TB) *pgxpool.Pool { return newPool(t, db.URI) }

// SuperPool is Pool as superuser.
func (db *DB) SuperPool(t testing.TB) *pgxpool.Pool { return newPool(t, db.SuperURI) }

func newPool(t testing.TB, uri string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), uri)
	if err != nil {
		t.Fatalf("pgtest: %s", err)
	}
	t.Cleanup(func() { Close(t, "a test's pool", pool.Close) })
	return pool
}
