package storage

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// checkSets asserts that no two label sets have the same labels, and that sets and series tell the same about which of them were created together.
func checkSets(t *testing.T, pg *pgtest.DB) {
	t.Helper()
	require.Zero(t, countRows(t, pg, "(SELECT FROM _promkeep.label_set GROUP BY labels HAVING count(*) > 1) AS x"))
	require.Zero(t, countRows(t, pg, `_promkeep.series AS s LEFT JOIN _promkeep.label_set AS l ON l.id = s.id & 137438953471
		WHERE ((s.id >> 37)::int4 = ANY (l.metrics)) IS NOT DISTINCT FROM s.late OR l.id IS NULL`))
}

// TestProcessesCreateTheSameSeries: several at once, in any order and with label pairs that are new to all of them.
func TestProcessesCreateTheSameSeries(t *testing.T) {
	pg := pgtest.New(t)
	open(t, testConfig(t, pg, &clock{day}))
	pool := pg.Pool(t)
	_, err := catalogue.New(pool, pool).Tenant(t.Context(), DefaultTenant)
	require.NoError(t, err)
	const processes, rounds, targets = 4, 60, 25
	ids := make([]map[string]uint64, processes)
	var wg sync.WaitGroup
	for p := range processes {
		c := catalogue.New(pool, pool)
		ids[p] = map[string]uint64{}
		rnd := rand.New(rand.NewPCG(uint64(p), 1))
		wg.Go(func() {
			for round := range rounds {
				var all []*catalogue.Series
				for range 1 + rnd.IntN(20) {
					lset := labels.FromStrings(model.MetricNameLabel, fmt.Sprint("m", rnd.IntN(4)), "instance", fmt.Sprint(round/3, "-", rnd.IntN(targets)), "job", "j")
					all = append(all, &catalogue.Series{Tenant: 1, Labels: lset, Started: 1})
				}
				if round%5 == 0 {
					all = append(all, &catalogue.Series{Tenant: 1, Labels: labels.FromStrings(model.MetricNameLabel, "m"+strconv.Itoa(round)), Started: 1})
				}
				if err := c.Create(t.Context(), all); err != nil {
					t.Error(err)
					return
				}
				for _, s := range all {
					ids[p][s.Labels.String()] = s.ID
				}
			}
		})
	}
	wg.Wait()
	one := map[string]uint64{}
	seen := map[uint64]string{}
	for _, of := range ids {
		for lset, id := range of {
			if known, ok := one[lset]; ok {
				require.Equal(t, known, id, lset)
			}
			if known, ok := seen[id]; ok {
				require.Equal(t, known, lset, id)
			}
			one[lset], seen[id] = id, lset
		}
	}
	require.Equal(t, len(one), countRows(t, pg, "_promkeep.series"))
	checkSets(t, pg)
}

// TestANewPairIsNoProofOfANewSetWhenAnotherProcessChangesTheCatalogue: another one may create series with a label pair as soon as it is there.
func TestANewPairIsNoProofOfANewSetWhenAnotherProcessChangesTheCatalogue(t *testing.T) {
	pg := pgtest.New(t)
	open(t, testConfig(t, pg, &clock{day}))
	pool, ctx := pg.Pool(t), t.Context()
	one, other := catalogue.New(pool, pool), catalogue.New(pool, pool)
	series := func(i int) *catalogue.Series { return &catalogue.Series{Tenant: 1, Labels: lset("m", i), Started: 7} }
	_, err := other.Tenant(ctx, DefaultTenant)
	require.NoError(t, err)
	require.NoError(t, other.Create(ctx, []*catalogue.Series{series(0)})) // the metric is there

	// The other one comes between the creation of the pair and that of the set.
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "UPDATE _promkeep.catalogue SET version = version + 1")
	require.NoError(t, err)
	mine := series(1)
	done := make(chan error, 1)
	go func() { done <- one.Create(ctx, []*catalogue.Series{mine}) }()
	pairs := func() (n int) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM _promkeep.label WHERE name = 'i' AND value = '1'").Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return pairs() == 1 }, time.Minute, time.Millisecond)
	var id int64
	require.NoError(t, tx.QueryRow(ctx, `INSERT INTO _promkeep.label_set (id, labels, metrics)
		SELECT nextval('_promkeep.label_set_seq'), ARRAY[(SELECT id FROM _promkeep.label WHERE name = 'i' AND value = '1'), p.id], s.metrics
		FROM _promkeep.label_set AS s, _promkeep.label AS p WHERE p.name = 'job' AND p.id = ANY (s.labels) RETURNING id`).Scan(&id))
	require.NoError(t, tx.QueryRow(ctx, "INSERT INTO _promkeep.series (id, started, late) SELECT id >> 37 << 37 | $1::int8, 7, false FROM _promkeep.series RETURNING id", id).Scan(&id))
	require.NoError(t, tx.Commit(ctx))
	require.NoError(t, <-done)
	require.EqualValues(t, id, mine.ID)
	require.Equal(t, 2, countRows(t, pg, "_promkeep.series"))
	checkSets(t, pg)
}

// TestCatalogueOlderThanLabelSets: several label sets have the same labels there, and series may have any of them.
func TestCatalogueOlderThanLabelSets(t *testing.T) {
	pg := pgtest.New(t)
	open(t, testConfig(t, pg, &clock{day}))
	pool, ctx := pg.Pool(t), t.Context()
	c := catalogue.New(pool, pool)
	_, err := c.Tenant(ctx, DefaultTenant)
	require.NoError(t, err)
	series := func(name string, i int) *catalogue.Series {
		return &catalogue.Series{Tenant: 1, Labels: lset(name, i), Started: 7, Ended: 9}
	}
	first, moved, second := series("a", 1), series("b", 1), series("a", 2)
	require.NoError(t, c.Create(ctx, []*catalogue.Series{first, moved, second}))
	// b has a label set of its own, and ended.
	var set int64
	require.NoError(t, pool.QueryRow(ctx, `INSERT INTO _promkeep.label_set (id, labels)
		SELECT nextval('_promkeep.label_set_seq'), labels FROM _promkeep.label_set WHERE id = $1::int8 & 137438953471 RETURNING id`, int64(first.ID)).Scan(&set))
	require.NoError(t, pool.QueryRow(ctx, "UPDATE _promkeep.series SET id = id >> 37 << 37 | $1, ended = 8, late = true WHERE id = $2 RETURNING id", set, int64(moved.ID)).Scan(&set))
	require.NotEqual(t, int64(moved.ID), set)
	state := func(id uint64) (started int, ended *int) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT started, ended FROM _promkeep.series WHERE id = $1", int64(id)).Scan(&started, &ended))
		return started, ended
	}

	past := []*catalogue.Series{series("b", 1), series("a", 1), series("a", 2)}
	past[0].Started, past[1].Started = 3, 4
	require.NoError(t, c.Import(ctx, past))
	require.Equal(t, []uint64{uint64(set), first.ID, second.ID}, []uint64{past[0].ID, past[1].ID, past[2].ID})
	started, ended := state(past[0].ID)
	require.Equal(t, 3, started)
	require.Equal(t, 9, *ended, "it stays ended, but lived longer")
	started, ended = state(first.ID)
	require.Equal(t, 4, started)
	require.Nil(t, ended)

	again := []*catalogue.Series{series("c", 1), series("b", 1), series("a", 1), series("a", 2), series("c", 3)}
	require.NoError(t, c.Create(ctx, again))
	require.Equal(t, []uint64{uint64(set), first.ID, second.ID}, []uint64{again[1].ID, again[2].ID, again[3].ID})
	require.Equal(t, first.ID&(1<<37-1), again[0].ID&(1<<37-1), "a new series takes the first of the sets")
	require.EqualValues(t, 9, again[1].Ended, "what it was before")
	require.EqualValues(t, catalogue.Unknown, again[2].Ended)
	_, ended = state(uint64(set))
	require.Nil(t, ended, "it is active again")
	require.Equal(t, 5, countRows(t, pg, "_promkeep.series"))
	require.Equal(t, 3, countRows(t, pg, "_promkeep.series WHERE NOT late"))
	require.Equal(t, 4, countRows(t, pg, "_promkeep.label_set"))
}
