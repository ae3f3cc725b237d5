package catalogue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
)

// Create looks the series up and creates those that are missing; ended ones become active again. It fills in ID, Started and
// Ended, and commits before it returns. Label values must not be longer than MaxLabelValue.
func (c *Catalogue) Create(ctx context.Context, series []*Series) error {
	// More at once write to the same pages, and less to make ready for each; others that change series wait the longer, a fifth of a second.
	const step = 20_000
	for len(series) > 0 {
		n := min(step, len(series))
		if err := c.create(ctx, series[:n], false); err != nil {
			var pg *pgconn.PgError
			if errors.As(err, &pg) && (pgerrcode.IsDataException(pg.Code) || pgerrcode.IsProgramLimitExceeded(pg.Code)) {
				return fmt.Errorf("%w: %w", ErrUnstorable, err)
			}
			return err
		}
		series = series[n:]
	}
	return nil
}

// create creates series, or with history makes known that they lived from Started to Ended.
func (c *Catalogue) create(ctx context.Context, series []*Series, history bool) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	const tries = 10
	for try := 1; ; try++ {
		c.mu.RLock()
		retired := c.retired
		c.mu.RUnlock()
		err := error(nil)
		if retired < 0 {
			retired, err = c.forgetAll(ctx)
		}
		if err == nil {
			err = c.createAsOf(ctx, retired, series, history)
		}
		if err == nil || try == tries {
			return err
		}
		var pg *pgconn.PgError
		switch {
		case errors.Is(err, errRemoved):
		case errors.As(err, &pg) && pg.Code == pgerrcode.SerializationFailure:
			// Another process has removed pairs or metrics, maybe some of these.
			if _, err := c.forgetAll(ctx); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// createAsOf creates series whose metrics and pairs were known, or are looked up, since the count of removals was retired.
func (c *Catalogue) createAsOf(ctx context.Context, retired int64, series []*Series, history bool) error {
	metricOf, err := c.ensureMetrics(ctx, series)
	if err != nil {
		return err
	}
	// Series of a target share label sets, so what there is to do for a set is done once.
	var (
		sets     []labels.Labels // one series for each set
		order    = make([]uint64, len(series))
		knownSet = make(map[string]int, len(series)/2)
		key      []byte
	)
	// By metric, as the primary key is. Of each series: metric, set, and its place in series, of which there are fewer than either can count.
	const placeBits, setBits = 18, 18
	for i, s := range series {
		key = s.Labels.BytesWithoutLabels(key, model.MetricNameLabel)
		at, ok := knownSet[string(key)]
		if !ok {
			at = len(sets)
			knownSet[string(key)] = at
			sets = append(sets, s.Labels)
		}
		order[i] = uint64(metricOf[i])<<(setBits+placeBits) | uint64(at)<<placeBits | uint64(i)
	}
	slices.Sort(order)
	w := wanted{history: history, series: make([]wantedSeries, 0, len(series))}
	if w.sets, w.asOf, err = c.ensurePairs(ctx, sets); err != nil {
		return err
	}
	places := make([]int32, len(series)) // of each series in w
	last := ^uint64(0)
	for _, o := range order {
		i, set := o&(1<<placeBits-1), o>>placeBits&(1<<setBits-1)
		s := series[i]
		if id := o >> placeBits; id != last {
			last = id
			w.series = append(w.series, wantedSeries{metric: metricOf[i], set: int32(set), started: s.Started, ended: s.Ended})
			w.sets[set].metrics = append(w.sets[set].metrics, metricOf[i])
		}
		at := len(w.series) - 1
		same := &w.series[at]
		same.started, same.ended = min(same.started, s.Started), max(same.ended, s.Ended)
		places[i] = int32(at)
	}

	version, found, err := c.write(ctx, retired, &w)
	if err != nil {
		// It may have been committed all the same.
		c.results.discard(everything)
		return err
	}
	for i, s := range series {
		at := &found[places[i]]
		s.ID, s.Started = uint64(at.id), at.started
		if !history {
			s.Ended = at.ended
		}
	}
	if history {
		c.results.changed(version, everything)
		return nil
	}
	// A new series is in ranges that end after it started, one that came back in ranges that begin after it ended.
	from, after := int32(math.MaxInt32), int32(math.MaxInt32)
	for i := range found {
		f := &found[i]
		if f.ended != Unknown {
			after = min(after, f.ended)
		}
		if f.ended == Unknown || f.started == w.series[i].started {
			from = min(from, f.started)
		}
	}
	c.back(series)
	c.results.changed(version, func(r *result) bool { return r.kind == ofAll && (r.maxt >= from || r.mint > after) })
	return nil
}

// forgetAll makes everything that was looked up be looked up anew. It returns the database's count of removals.
func (c *Catalogue) forgetAll(ctx context.Context) (retired int64, err error) {
	var version int64
	if err := c.pool.QueryRow(ctx, schema.CatalogueState).Scan(&version, &retired); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.metrics, c.metric, c.pairs, c.allMetrics = map[metricKey]int32{}, map[int32]metricKey{}, pairCache{}, false
	c.retired = retired
	c.removal++
	c.results.distrust()
	return retired, nil
}

// Fence begins a transaction of the leader: it fails if another process leads now.
type Fence func(ctx context.Context, tx pgx.Tx) error

// End notes that no active writer knows the series any more; last is the youngest sample of each, in ms. It holds off the creation of
// series, so ids should not be many.
func (c *Catalogue) End(ctx context.Context, fence Fence, ids []uint64, last []int64) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	first := int32(math.MaxInt32)
	hours := make([]int32, len(last))
	for i, ms := range last {
		hours[i] = Hour(ms)
		first = min(first, hours[i])
	}
	var version int64
	err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		if err := fence(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, schema.SeriesEnd, schema.SignedIDs(ids), hours).Scan(&version)
	})
	if err != nil {
		c.results.discard(everything)
		return err
	}
	c.told(ids)
	c.results.changed(version, func(r *result) bool { return r.kind == ofAll && r.mint > first })
	return nil
}

// Revive makes series active again that had ended, if they exist, and calls fn for each of those that exist.
func (c *Catalogue) Revive(ctx context.Context, ids []uint64, fn func(Series)) error {
	var back []uint64
	if err := c.ByID(ctx, ids, func(s Series) {
		if s.Ended != Unknown {
			back = append(back, s.ID)
		}
		fn(s)
	}); err != nil || len(back) == 0 {
		return err
	}
	// In steps, for each holds off the creation of series.
	for part := range slices.Chunk(back, 5000) {
		if err := c.reviveSome(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) reviveSome(ctx context.Context, ids []uint64) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	var version int64
	if err := c.pool.QueryRow(ctx, schema.SeriesRevive, schema.SignedIDs(ids)).Scan(&version); err != nil {
		c.results.discard(everything)
		return err
	}
	c.results.changed(version, everything)
	return nil
}
