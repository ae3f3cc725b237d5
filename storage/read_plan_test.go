package storage

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestTheColumnstoreUnpacksOnlyTheMetricsOfAQuery looks at the plan of the statement for rows: of what lies between two metrics nothing is unpacked.
func TestTheColumnstoreUnpacksOnlyTheMetricsOfAQuery(t *testing.T) {
	const metrics = 40
	pg := pgtest.New(t, pgtest.WithTimescaleDB)
	c := &clock{day.Add(time.Hour)}
	db := open(t, testConfig(t, pg, c))
	if db.status.TimescaleDB != schema.EditionCommunity {
		t.Skip("this edition has no columnstore")
	}
	for i := range metrics {
		write(t, db, lset("m"+fmt.Sprint(i), i), sample{day.UnixMilli(), 1}, sample{day.UnixMilli() + 15_000, float64(i)})
	}
	require.NoError(t, db.Flush(t.Context()))
	c.now = day.Add(48 * time.Hour)
	for range 2 {
		makePartsOld(t, pg)
		require.NoError(t, db.Maintain(t.Context()))
	}
	conn := pg.Pool(t)
	var ids []int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT array_agg(id ORDER BY id) FROM _promkeep.series").Scan(&ids))
	require.Len(t, ids, metrics)

	type plan struct {
		Relation string  `json:"Relation Name"`
		Rows     float64 `json:"Actual Rows"`
		Loops    float64 `json:"Actual Loops"`
		Plans    []plan  `json:"Plans"`
	}
	var batches func(p plan) int
	batches = func(p plan) (n int) {
		if strings.HasPrefix(p.Relation, "compress_hyper_") {
			n = int(p.Rows*p.Loops + 0.5)
		}
		for _, sub := range p.Plans {
			n += batches(sub)
		}
		return n
	}
	unpacked := func(ids, first, last []int64) int {
		t.Helper()
		var raw []byte
		require.NoError(t, conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+schema.ReadRows, ids, first, last,
			day.UnixMilli(), day.UnixMilli(), day.UnixMilli()+60_000).Scan(&raw))
		var out []struct{ Plan plan }
		require.NoError(t, json.Unmarshal(raw, &out))
		return batches(out[0].Plan)
	}
	all := unpacked(ids, ids[:1], ids[metrics-1:])
	require.GreaterOrEqual(t, all, metrics/4, "a bundle for each metric, and not many of them to a batch")
	ends := []int64{ids[0], ids[metrics-1]}
	require.Equal(t, 2, unpacked(ends, ends, ends))
}
