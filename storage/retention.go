package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
)

// RetentionRule says how long samples of some series are kept.
type RetentionRule struct {
	Tenant   string            // "" is any
	Matchers []*labels.Matcher // none: all series
	Keep     time.Duration
}

func (r RetentionRule) matches(tenant string, l labels.Labels) bool {
	return (r.Tenant == "" || r.Tenant == tenant) && matchesAll(l, r.Matchers)
}

func (r RetentionRule) String() string {
	return fmt.Sprintf("%q %s %s", r.Tenant, selector(r.Matchers), r.Keep)
}

// conditions are the matchers as SQL takes them.
func (r RetentionRule) conditions() ([]byte, error) {
	all := map[string][]string{}
	for _, m := range r.Matchers {
		all[m.Name] = append(all[m.Name], m.Type.String()+m.Value)
	}
	return json.Marshal(all)
}

// retention is the rules, of which the first that matches counts. Without any, all series are kept equally long, and to the whole day.
type retention struct {
	rules             []RetentionRule // the last one matches everything
	longest, shortest time.Duration
}

func newRetention(cfg Config) retention {
	r := retention{longest: cfg.Retention, shortest: cfg.Retention}
	if len(cfg.RetentionRules) == 0 {
		return r
	}
	r.rules = append(slices.Clone(cfg.RetentionRules), RetentionRule{Keep: cfg.Retention})
	for _, rule := range r.rules {
		r.longest, r.shortest = max(r.longest, rule.Keep), min(r.shortest, rule.Keep)
	}
	return r
}

// rule returns the number of the rule that counts for a series.
func (r retention) rule(tenant string, l labels.Labels) int {
	return slices.IndexFunc(r.rules, func(rule RetentionRule) bool { return rule.matches(tenant, l) })
}

// present is the time in ms from which ages count. A clock that jumps ahead must not cost the history, so it counts only up to a day after
// the youngest sample.
func (db *DB) present() int64 {
	now := db.cfg.Now().UnixMilli()
	if youngest := db.youngest.Load(); youngest > 0 {
		now = min(now, youngest+maxAhead.Milliseconds())
	}
	return now
}

// keepsAll tells whether no series has lost anything from mint on, in ms.
func (db *DB) keepsAll(mint int64) bool {
	return len(db.retention.rules) == 0 || mint >= db.present()-db.retention.shortest.Milliseconds()
}

// keptFrom is the time in ms before which samples of a series do not count any more.
func (db *DB) keptFrom(tenant string, l labels.Labels) int64 {
	if len(db.retention.rules) == 0 {
		return math.MinInt64
	}
	return db.present() - db.retention.rules[db.retention.rule(tenant, l)].Keep.Milliseconds()
}

// publishRetention tells SQL of the rules.
func (db *DB) publishRetention(ctx context.Context) error {
	now := db.present()
	return pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if _, err := chunks.Fence(ctx, tx, db.log.Epoch()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, schema.RetentionClear); err != nil {
			return err
		}
		for i, rule := range db.retention.rules {
			conditions, err := rule.conditions()
			if err != nil {
				return err
			}
			var tenant *string
			if rule.Tenant != "" {
				tenant = &rule.Tenant
			}
			keep := rule.Keep.Milliseconds()
			if _, err := tx.Exec(ctx, schema.RetentionPut, i, tenant, string(conditions), keep, now-keep); err != nil {
				return err
			}
		}
		return nil
	})
}

// retireRows moves on what SQL knows to be past its retention, and takes that out of the rows of days in which all of a rule's
// samples are. It stops after some time, and goes on where it was the next time. The caller holds flushMu.
func (db *DB) retireRows(ctx context.Context) error {
	if len(db.retention.rules) == 0 {
		return nil
	}
	now := db.present()
	if _, err := db.pool.Exec(ctx, schema.RetentionMove, now); err != nil {
		return err
	}
	if _, err := db.pool.Exec(ctx, schema.ErasedDayForget, db.MinTime()-chunks.Day); err != nil {
		return err
	}
	days, err := db.retiredDays(ctx, now)
	if err != nil {
		return err
	}
	const budget = 30 * time.Second
	began := time.Now()
	for i, d := range days {
		db.retiring.Store(int64(len(days) - i))
		if time.Since(began) > budget {
			return nil
		}
		if err := db.retireDay(ctx, d); err != nil {
			db.metrics.eraseFailures.Inc()
			return fmt.Errorf("taking out what is past its retention: %w", err)
		}
	}
	db.retiring.Store(0)
	return nil
}

// retiredDay is a day that some rules let go of.
type retiredDay struct {
	day   int64  // ms
	over  []bool // by rule
	state string // what erased_day holds when its rows are rewritten for these rules
}

// retiredDays returns the days that are still to be rewritten, oldest first. A day is left alone until its rows have been merged.
func (db *DB) retiredDays(ctx context.Context, now int64) ([]retiredDay, error) {
	rows, err := db.pool.Query(ctx, schema.ErasedDays)
	if err != nil {
		return nil, err
	}
	done := map[int64]string{}
	var (
		day   int64
		state string
	)
	if _, err := pgx.ForEachRow(rows, []any{&day, &state}, func() error { done[day] = state; return nil }); err != nil {
		return nil, err
	}
	all, err := db.chunks.Days(ctx)
	if err != nil {
		return nil, err
	}
	var out []retiredDay
	for _, day := range all {
		d := retiredDay{day: day}
		h := sha256.New()
		for _, rule := range db.retention.rules {
			over := day+chunks.Day <= now-max(rule.Keep, db.chunks.LateAfter).Milliseconds()
			d.over = append(d.over, over)
			fmt.Fprintln(h, rule, over)
		}
		d.state = hex.EncodeToString(h.Sum(nil)[:16])
		if slices.Contains(d.over, true) && done[day] != d.state {
			out = append(out, d)
		}
	}
	return out, nil
}

// retireDay takes the series that a rule lets go of out of the rows of a day.
func (db *DB) retireDay(ctx context.Context, d retiredDay) error {
	rows, err := db.pool.Query(ctx, schema.Tenants)
	if err != nil {
		return err
	}
	tenants := map[int32]string{}
	var (
		tenant int32
		name   string
	)
	if _, err := pgx.ForEachRow(rows, []any{&tenant, &name}, func() error { tenants[tenant] = name; return nil }); err != nil {
		return err
	}
	var ids []uint64
	for tenant, name := range tenants {
		for i, rule := range db.retention.rules {
			if !d.over[i] || (rule.Tenant != "" && rule.Tenant != name) {
				continue
			}
			err := db.catalogue.Select(ctx, tenant, d.day, d.day+chunks.Day-1, nil, func(s catalogue.Series) error {
				if db.retention.rule(name, s.Labels) == i {
					ids = append(ids, s.ID)
				}
				return nil
			}, rule.Matchers...)
			if err != nil {
				return err
			}
		}
	}
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(a, b) })
	span := chunks.Span{Mint: math.MinInt64, Maxt: d.day + chunks.Day - 1, Version: math.MaxInt32}
	var done chunks.Erased
	err = db.eraseDay(ctx, d.day, chunks.Eraser{IDs: ids, Mint: d.day, Maxt: span.Maxt, Spans: []chunks.Span{span}}, &done)
	if err != nil {
		return err
	}
	if done.Rows > 0 {
		db.cfg.Logger.Info("took out of a day what is past its retention", "day", time.UnixMilli(d.day).UTC().Format(time.DateOnly),
			"rows", done.Rows, "samples", done.Samples)
	}
	_, err = db.pool.Exec(ctx, schema.ErasedDayPut, d.day, d.state)
	return err
}
