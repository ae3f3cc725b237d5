package storage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/alecthomas/units"

	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/head"
	"github.com/promkeep/promkeep/storage/series"
)

// Budget bounds the bytes that one query holds of what it reads: packed rows, labels of series that are no longer in memory, and
// decoded samples. What the PromQL engine makes of them is bounded by its number of samples. Safe for concurrent use.
type Budget struct {
	name       string
	limit      int64
	held, peak atomic.Int64
	total      *atomic.Int64 // of all budgets of a DB; may be nil
	totalName  string
	totalLimit int64 // 0: no bound
}

// NewBudget returns a budget of limit bytes; at 0 or below there is no bound. The name is what errors call the limit.
func NewBudget(name string, limit int64) *Budget { return &Budget{name: name, limit: limit} }

// NewBudget returns a budget that the metric promkeep_query_held_bytes counts.
func (db *DB) NewBudget(name string, limit int64) *Budget {
	return &Budget{name: name, limit: limit, total: &db.queryBytes}
}

// Within also bounds what all budgets of the DB hold together: past limit bytes, whatever would hold more gets a TotalError. At 0 there is no
// bound. The name is what errors call the limit.
func (b *Budget) Within(name string, limit int64) *Budget {
	b.totalName, b.totalLimit = name, limit
	return b
}

func (b *Budget) add(n int64) (held int64) {
	if b.total != nil {
		b.total.Add(n)
	}
	return b.held.Add(n)
}

// Peak is the most that was held at once, in bytes.
func (b *Budget) Peak() int64 { return b.peak.Load() }

// Held is what is held now, in bytes.
func (b *Budget) Held() int64 { return b.held.Load() }

// BudgetError means that a query would hold more than its Budget. It is the query's fault, not the database's.
type BudgetError struct {
	Name  string
	Bytes int64
}

// Limit returns which limit it is, and its bytes.
func (e *BudgetError) Limit() (name string, bytes int64) { return e.Name, e.Bytes }

func (e *BudgetError) Error() string {
	return fmt.Sprintf("the query would hold more than %s of packed rows and samples in memory (%s)", units.Base2Bytes(e.Bytes), e.Name)
}

// TotalError means that all queries together would hold more than they may. It passes when others end.
type TotalError struct {
	Name  string
	Bytes int64
}

func (e *TotalError) Error() string {
	return fmt.Sprintf("the queries that run would hold more than %s of packed rows and samples in memory (%s): try again later", units.Base2Bytes(e.Bytes), e.Name)
}

// RetryAfter is how long a client should wait.
func (e *TotalError) RetryAfter() time.Duration { return 5 * time.Second }

type budgetKey struct{}

// WithBudget makes all that is read with the context count against b, until the queriers are closed.
func WithBudget(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// share is what one querier has of a budget. A nil share has no bound.
type share struct {
	budget *Budget
	mu     sync.Mutex
	taken  int64
	given  bool  // the querier is closed
	latest int64 // bytes of the latest decoded series, if only one is held at a time
	single bool
}

type (
	shareKey  struct{}
	singleKey struct{}
)

// oneAtATime says that of the series of a Select only one is decoded at a time, by an iterator of its own.
func oneAtATime(ctx context.Context) context.Context {
	return context.WithValue(ctx, singleKey{}, true)
}

func shareOf(ctx context.Context) *share {
	s, _ := ctx.Value(shareKey{}).(*share)
	return s
}

// shares are those of a querier's Selects.
type shares struct {
	mu  sync.Mutex
	all []*share
}

// of returns a context that has a share of the budget, if that has one.
func (s *shares) of(ctx context.Context) context.Context {
	b, ok := ctx.Value(budgetKey{}).(*Budget)
	if !ok || b == nil {
		return ctx
	}
	one := &share{budget: b, single: ctx.Value(singleKey{}) != nil}
	s.mu.Lock()
	s.all = append(s.all, one)
	s.mu.Unlock()
	return context.WithValue(ctx, shareKey{}, one)
}

func (s *shares) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		one.giveBack()
	}
}

// take counts n bytes more, or fewer if n is negative.
func (s *share) take(n int64) error {
	if s == nil || n == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given {
		return nil
	}
	s.taken += n
	held := s.budget.add(n)
	if s.budget.limit > 0 && held > s.budget.limit && n > 0 {
		return &BudgetError{s.budget.name, s.budget.limit}
	}
	if b := s.budget; b.totalLimit > 0 && n > 0 && b.total != nil && b.total.Load() > b.totalLimit {
		return &TotalError{b.totalName, b.totalLimit}
	}
	for peak := s.budget.peak.Load(); held > peak && !s.budget.peak.CompareAndSwap(peak, held); {
		peak = s.budget.peak.Load()
	}
	return nil
}

// restart forgets what was counted: it is read again.
func (s *share) restart() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.given {
		s.budget.add(-s.taken)
		s.taken, s.latest = 0, 0
	}
}

// giveBack ends the counting.
func (s *share) giveBack() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.given {
		s.budget.add(-s.taken)
		s.given = true
	}
}

// series counts a series found, with what memory holds of it.
func (s *share) series(v *head.View, labelBytes int) error {
	if s == nil {
		return nil
	}
	return s.take(int64(unsafe.Sizeof(selected{})) + int64(labelBytes) + int64(len(v.Rows))*int64(unsafe.Sizeof(head.Row{})) +
		int64(len(v.Samples))*int64(unsafe.Sizeof(head.Sample{})) + int64(len(v.ST))*32 + histogramBytes(v.Histograms))
}

// row counts a packed row read from the database.
func (s *share) row(r *chunks.Row) error {
	return s.take(int64(unsafe.Sizeof(chunks.Row{})) + int64(len(r.Data)))
}

// decoded counts the samples that an iterator holds, in place of those of the series before.
func (s *share) decoded(i *iterator) error {
	if s == nil {
		return nil
	}
	n := int64(cap(i.set.T)+cap(i.set.V)+cap(i.set.ST))*8 + histogramBytes(i.set.Histograms)
	if s.single {
		s.mu.Lock()
		n, s.latest = n-s.latest, n
		s.mu.Unlock()
		return s.take(n)
	}
	before := i.held
	if i.share != s {
		i.share.take(-i.held) //nolint:errcheck // Less is always allowed.
		i.share, before = s, 0
	}
	i.held = n
	return s.take(n - before)
}

func histogramBytes(all []series.Histogram) (n int64) {
	for _, h := range all {
		n += 200
		if h.H != nil {
			n += 8 * int64(len(h.H.PositiveBuckets)+len(h.H.NegativeBuckets)+len(h.H.PositiveSpans)+len(h.H.NegativeSpans))
		}
		if h.FH != nil {
			n += 8 * int64(len(h.FH.PositiveBuckets)+len(h.FH.NegativeBuckets)+len(h.FH.PositiveSpans)+len(h.FH.NegativeSpans))
		}
	}
	return n
}
