package sqltest

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// client runs one of PostgreSQL's client programs, of the server's own version, on a database.
func client(t testing.TB, pg *pgtest.DB, program, uri string, args ...string) {
	t.Helper()
	var bin string
	require.NoError(t, pg.SuperPool(t).QueryRow(t.Context(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&bin))
	program = filepath.Join(bin, program)
	if _, err := os.Stat(program); err != nil {
		t.Skipf("this server comes without its client programs: %s", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, append(args, "--dbname="+uri)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s %v: %s", program, args, out.String())
}

// TestDumpAndRestore moves a filled database to another one as docs/sql.md says, and asks both the same.
func TestDumpAndRestore(t *testing.T) {
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := fill(t, pg)
		ms := func(name string) []*labels.Matcher { return []*labels.Matcher{eq("__name__", name)} }
		s.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(s.now.UnixMilli(), 0, 42) }) // in the log only
		one(t, pg.Pool(t), "SELECT promkeep.create_metric_view('node_load1')")
		// A deletion that was not carried out on the rows yet.
		require.NoError(t, s.Delete(t.Context(), s.now.Add(-3*time.Hour).UnixMilli(), s.now.Add(-2*time.Hour).UnixMilli(), ms("http_requests_total")))
		before := s.query(t, "default", 0, math.MaxInt64, ms("http_requests_total")...)
		requireSamples(t, "SQL before", before, sqlSamples(t, pg.Pool(t), "'http_requests_total'"))
		want := map[string]map[string][]sample{}
		for _, tenant := range []string{"default", "team-b"} {
			for _, name := range []string{"http_requests_total", "node_load1", "m"} {
				want[tenant+name] = s.query(t, tenant, 0, math.MaxInt64, ms(name)...)
			}
		}
		require.NotEmpty(t, want["defaultm"])
		require.NoError(t, s.Close())

		target, super := emptyDB(t, pg)
		file := filepath.Join(t.TempDir(), "dump")
		client(t, pg, "pg_dump", pg.URI, "--format=custom", "--file="+file)
		if pg.HasTimescaleDB {
			super("SELECT timescaledb_pre_restore()")
			client(t, pg, "pg_restore", target.SuperURI, "--exit-on-error", file)
			super("SELECT timescaledb_post_restore()")
		} else {
			client(t, pg, "pg_restore", target.URI, "--exit-on-error", "--no-owner", file)
		}

		restored := &store{pg: target, now: s.now}
		restored.open(t)
		check := func(stage string) {
			t.Helper()
			for _, tenant := range []string{"default", "team-b"} {
				for _, name := range []string{"http_requests_total", "node_load1", "m"} {
					requireSamples(t, stage+" "+tenant+" "+name, want[tenant+name], restored.query(t, tenant, 0, math.MaxInt64, ms(name)...))
				}
			}
		}
		check("restored")
		pool := target.Pool(t)
		require.Equal(t, "1", one(t, pool, "SELECT count(*) FROM _promkeep.deletion"))
		requireSamples(t, "SQL after a deletion", want["defaulthttp_requests_total"], sqlSamples(t, pool, "'http_requests_total'"))
		requireSamples(t, "SQL", want["defaultnode_load1"], sqlSamples(t, pool, "'node_load1'"))
		require.Equal(t, "7200", one(t, pool, "SELECT count(*) FROM promkeep_metrics.node_load1"))

		// It goes on: new samples of old and new series are taken, flushed and merged.
		restored.write(t, "", lset("m", 1), func(b *storage.Batch) { b.Float(s.now.UnixMilli()+1, 0, 43) })
		restored.write(t, "", lset("m", 2), func(b *storage.Batch) { b.Float(s.now.UnixMilli()+1, 0, 44) })
		for l, v := range map[string]float64{lset("m", 1).MatchLabels(false, "__name__").String(): 43, lset("m", 2).MatchLabels(false, "__name__").String(): 44} {
			want["defaultm"][l] = append(want["defaultm"][l], sample{s.now.UnixMilli() + 1, v})
		}
		restored.flush(t)
		restored.now = restored.now.Add(48 * time.Hour)
		restored.gather(t)
		check("merged")
		require.Equal(t, "0", one(t, pool, "SELECT count(*) FROM _promkeep.recent"))
	})
}

// emptyDB makes a database of the same kind on the same server, and a function that runs statements in it as superuser.
func emptyDB(t testing.TB, pg *pgtest.DB) (*pgtest.DB, func(sql string)) {
	t.Helper()
	var opts []pgtest.Option
	if pg.HasTimescaleDB {
		opts = append(opts, pgtest.WithTimescaleDB)
	}
	target := pg.Server.NewDB(t, opts...)
	return target, func(sql string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), target.SuperURI)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
}
