package sqltest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestTheDocumentationsExamples runs every example of docs/sql.md, as it stands there, on samples of the last hours. Each query
// must find something.
func TestTheDocumentationsExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/sql.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(blocks), 10)
	pgtest.Run(t, func(t *testing.T, pg *pgtest.DB) {
		s := openStore(t, pg)
		s.now = time.Now()
		for i := range 4 {
			put := func(l labels.Labels, v func(k int) float64) {
				s.write(t, "", l, func(b *storage.Batch) {
					for k := range 150 {
						b.Float(s.now.Add(time.Duration(k-149)*time.Minute).UnixMilli(), 0, v(k))
					}
				})
			}
			put(labels.FromStrings("__name__", "http_requests_total", "job", "api", "pod", fmt.Sprintf("web-%d", i), "code", []string{"200", "500"}[i%2]),
				func(k int) float64 { return float64(k * i) })
			put(labels.FromStrings("__name__", "node_load1", "instance", fmt.Sprintf("node-%d:9100", i)), func(k int) float64 { return float64(k%7) / 10 })
		}
		s.flush(t)
		super := pg.SuperPool(t)
		_, err := super.Exec(t.Context(), "DROP ROLE IF EXISTS grafana; CREATE ROLE grafana")
		require.NoError(t, err)
		defer super.Exec(t.Context(), "DROP OWNED BY grafana; DROP ROLE grafana")

		conn, err := pgx.Connect(t.Context(), pg.URI)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		for _, block := range blocks {
			sql := grafana(block[1], s.now.Add(-time.Hour), s.now)
			results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
			require.NoError(t, err, sql)
			for _, r := range results {
				if r.CommandTag.Select() {
					require.NotZero(t, r.CommandTag.RowsAffected(), "nothing was found: %s", sql)
				}
			}
		}
		requireGrafana(t, conn.PgConn(), string(text), s.now)
	}, pgtest.OneByOne)
}

// grafana expands the macros of Grafana's PostgreSQL data source as its documentation says.
func grafana(sql string, from, to time.Time) string {
	lo, hi := "'"+from.UTC().Format(time.RFC3339)+"'", "'"+to.UTC().Format(time.RFC3339)+"'"
	sql = regexp.MustCompile(`\$__timeFilter\((\w+)\)`).ReplaceAllString(sql, "$1 BETWEEN "+lo+" AND "+hi)
	sql = regexp.MustCompile(`\$__timeGroupAlias\((\w+), '1m'\)`).ReplaceAllString(sql, `floor(extract(epoch from $1)/60)*60 AS "time"`)
	return strings.NewReplacer("$__timeFrom()", lo, "$__timeTo()", hi).Replace(sql)
}

// requireGrafana checks that a condition on time gives the same samples as arguments.
func requireGrafana(t testing.TB, conn *pgconn.PgConn, text string, now time.Time) {
	t.Helper()
	count := func(sql string) string {
		results, err := conn.Exec(t.Context(), grafana("SELECT count(*), sum(value) FROM "+sql, now.Add(-time.Hour), now)).ReadAll()
		require.NoError(t, err)
		return fmt.Sprintf("%s", results[0].Rows)
	}
	require.Contains(t, text, "promkeep.samples('http_requests_total', '{\"job\": \"api\"}', $__timeFrom(), $__timeTo())")
	require.Equal(t, count("promkeep.samples('http_requests_total', '{\"job\": \"api\"}', $__timeFrom(), $__timeTo())"),
		count("promkeep_metrics.http_requests_total WHERE $__timeFilter(time) AND job = 'api'"))
}
