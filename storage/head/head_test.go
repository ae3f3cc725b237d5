package head

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

func lset(i int) labels.Labels {
	return labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
}

func key(i int) Key { return Key{uint64(i) + 1, 7} }

func pack(s *Series, samples []Sample) Row {
	var ts []int64
	var vs []float64
	for _, x := range samples {
		ts, vs = append(ts, x.T), append(vs, x.V)
	}
	return Row{Start: ts[0], End: ts[len(ts)-1], N: int32(len(ts)), Encoding: codec.EncodingFloat, Data: codec.Append(nil, ts, vs, nil)}
}

func TestFlushTakesWhatCameBeforeTheLine(t *testing.T) {
	h := New()
	s := h.Tenant(1).Add(key(1), 1, lset(1), 0)
	h.Append(s, 10, 0, 1)
	h.Append(s, 5, 0, 2)
	h.Append(s, 10, 0, 3)
	h.Advance()
	h.Append(s, 20, 0, 4)
	flush := func(version int32, committed bool) (out []Sample) {
		require.NoError(t, h.Flushing(func(s *Series, samples []Sample, _ map[int64]int64, _ []series.Histogram) ([]Row, error) {
			out = append(out, samples...)
			r := pack(s, samples)
			r.Version = version
			return []Row{r}, nil
		}))
		h.Flushed(version, committed)
		return out
	}
	require.Equal(t, []Sample{{5, 2}, {10, 3}}, flush(1, false))
	v := s.View(0, 100)
	require.Empty(t, v.Rows, "the rows of a failed flush are gone")
	require.Equal(t, []Sample{{5, 2}, {10, 3}, {20, 4}}, v.Samples)

	h.Append(s, 5, 0, 9)
	h.Advance()
	require.Equal(t, []Sample{{5, 9}, {10, 3}, {20, 4}}, flush(2, true), "the next flush takes it all")
	require.Zero(t, h.UnflushedBytes(), "what was replaced does not count for ever")
	v = s.View(0, 100)
	require.Len(t, v.Rows, 1)
	require.Empty(t, v.Samples)
	h.Append(s, 30, 0, 5)
	require.Equal(t, []Sample{{30, 5}}, s.View(0, 100).Samples)
}

func TestSpellingsOfASeriesAreBounded(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	s := tenant.Add(key(0), 1, lset(1), 0)
	for i := range 100 {
		require.Same(t, s, tenant.Find(key(i), lset(1)))
	}
	require.LessOrEqual(t, tenant.keys.len(), maxAliases+1)
	tenant.RLock()
	require.Same(t, s, tenant.Known(key(0), nil).Series(), "the first spelling stays")
	require.Same(t, s, tenant.Known(key(99), nil).Series())
	tenant.RUnlock()
}

func TestIdleSeriesAreCollected(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	for i := range 10 {
		h.Append(tenant.Add(key(i), uint64(i), lset(i), 0), 1000, 0, 1)
	}
	require.Empty(t, h.Collect(func(*Series) {}), "they have samples")
	h.Advance()
	require.NoError(t, h.Flushing(func(s *Series, samples []Sample, _ map[int64]int64, _ []series.Histogram) ([]Row, error) {
		return []Row{pack(s, samples)}, nil
	}))
	h.Flushed(0, true)
	h.SetCoverFrom(0)
	h.Evict(math.MaxInt64 - 1)
	h.Advance()
	tenant.RLock()
	require.NotNil(t, tenant.Known(key(3), nil), "a writer is about to write")
	tenant.RUnlock()
	ended := h.Collect(func(*Series) {})
	require.Len(t, ended, 9)
	for _, e := range ended {
		require.EqualValues(t, 1000, e.Last)
		require.NotEqualValues(t, 3, e.ID)
	}
	require.Equal(t, 1, h.Len())
	left, err := tenant.Select(context.Background(), labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Zero(t, h.CachedBytes())
	tenant.RLock()
	defer tenant.RUnlock()
	require.Nil(t, tenant.Known(key(4), nil))
}

// TestSpellingsTable: the table finds what was added and not removed, whatever the order, and places are used again.
func TestSpellingsTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var table spellings
	model := map[Key]*Series{}
	var keys []Key
	steps := 200_000
	if testing.Short() {
		steps /= 5
	}
	for range steps {
		// Few homes, so that there are long runs of slots.
		k := Key{uint64(r.IntN(64)), uint64(r.IntN(40))}
		if s, known := model[k]; known {
			sp := table.find(k)
			require.Same(t, s, sp.Series())
			if r.IntN(2) == 0 {
				table.remove(sp)
				delete(model, k)
			}
		} else if require.Nil(t, table.find(k)); r.IntN(3) > 0 {
			model[k] = &Series{ID: r.Uint64()}
			sp := table.add(k, model[k])
			require.Equal(t, model[k].ID, sp.ID())
			require.Zero(t, sp.Extent())
			sp.SetExtent(7)
			keys = append(keys, k)
		}
		require.Equal(t, len(model), table.len())
	}
	require.LessOrEqual(t, len(table.pages), 64*40/pageSize+1)
	for k, s := range model {
		require.Same(t, s, table.find(k).Series())
	}
	for k := range model {
		table.remove(table.find(k))
	}
	require.Nil(t, table.pages)
	for _, k := range keys {
		require.Nil(t, table.find(k))
	}
}

// TestGuesses: what followed a spelling the last time is guessed, and what is gone is not.
func TestGuesses(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	for i := range 4 {
		tenant.Add(key(i), uint64(i), lset(i), 0)
	}
	known := func(i int, before *Spelling) *Spelling {
		tenant.RLock()
		defer tenant.RUnlock()
		sp := tenant.Known(key(i), before)
		require.EqualValues(t, i, sp.ID())
		return sp
	}
	guess := func(sp *Spelling) *Series {
		tenant.RLock()
		defer tenant.RUnlock()
		if next := tenant.Next(sp); next != nil {
			return next.Series()
		}
		return nil
	}
	first := known(0, nil)
	require.EqualValues(t, 1, guess(first).ID, "the order of creation, at first")
	third := known(3, known(2, first))
	require.EqualValues(t, 2, guess(first).ID)
	require.Nil(t, guess(third), "nothing came after it")
	known(1, third)
	require.EqualValues(t, 1, guess(third).ID)

	// Series 1 and 2 end: nobody has asked for them during two flushes, while 0 and 3 are asked for.
	h.Advance()
	h.Advance()
	known(3, nil)
	known(0, nil)
	require.Len(t, h.Collect(func(*Series) {}), 2)
	require.Nil(t, guess(first))
	require.Nil(t, guess(third))
	tenant.Add(key(9), 9, lset(9), 0)
	require.EqualValues(t, 9, known(9, third).ID())
	require.EqualValues(t, 9, guess(third).ID)
}

// TestSeriesWithOneHash: labels of which the hashes are the same are told apart, in any order of coming and going.
func TestSeriesWithOneHash(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	steps := 50_000
	if testing.Short() {
		steps /= 5
	}
	for _, series := range []uint32{12, 3000} {
		var table byLabels
		model := map[uint32]bool{}
		for range steps {
			ref := 1 + uint32(r.IntN(int(series)))
			hash := uint64(ref % (series / 4)) // neighbours run into each other
			found := false
			table.find(hash, func(other uint32) bool {
				require.True(t, model[other])
				require.Equal(t, ref%(series/4), other%(series/4))
				found = other == ref
				return found
			})
			require.Equal(t, model[ref], found)
			if found {
				table.remove(hash, ref)
				delete(model, ref)
			} else {
				model[ref] = true
				table.add(hash, ref)
			}
			require.Equal(t, len(model), table.used)
		}
		for ref := range model {
			table.remove(uint64(ref%(series/4)), ref)
		}
		require.Zero(t, table.used)
		require.LessOrEqual(t, len(table.slots), 1024, "what is gone takes no memory")
	}
}

// TestSeriesByID: the table of IDs finds what was put and not removed, and series are passed through in order of their IDs as they come and go.
func TestSeriesByID(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	var table byID
	model := map[uint64]place{}
	for i := range uint32(100_000) {
		id := uint64(r.IntN(40))<<37 | uint64(r.IntN(100))
		require.Equal(t, model[id], table.find(id))
		switch r.IntN(3) {
		case 0:
			table.remove(id)
			delete(model, id)
		default:
			model[id] = place{id, 0, i + 1}
			table.put(model[id])
		}
		require.Equal(t, len(model), table.used)
	}
	for id := range model {
		table.remove(id)
	}
	require.LessOrEqual(t, len(table.slots), 1024, "what is gone takes no memory")

	h := New()
	there := map[uint64]*Series{}
	for range 30 {
		for range 50 {
			id := uint64(r.IntN(1000))
			tenant := h.Tenant(int32(id % 3))
			there[id] = tenant.Add(Key{}, id, lset(int(id)), 0)
			require.Same(t, there[id], h.ByID(id))
		}
		var got []uint64
		h.all(func(s *Series) {
			require.Same(t, there[s.ID], s)
			got = append(got, s.ID)
		})
		require.Len(t, got, len(there))
		require.IsIncreasing(t, got)
		h.Advance()
		if r.IntN(3) == 0 {
			h.Advance()
			for id := range there {
				if r.IntN(2) == 0 { // a writer asks for it
					h.Tenant(int32(id%3)).Find(Key{}, lset(int(id)))
				}
			}
			for _, e := range h.Collect(func(*Series) {}) {
				require.Nil(t, h.ByID(e.ID))
				delete(there, e.ID)
			}
			require.Equal(t, len(there), h.Len())
		}
	}
}

func TestRefs(t *testing.T) {
	var table refs
	for i := range uint32(1000) {
		table.add(i+1, &Series{ID: uint64(i + 1)})
	}
	for i := range uint32(1000) {
		if i%5 > 0 {
			table.remove(i + 1)
		}
	}
	require.Equal(t, 200, table.n)
	require.Nil(t, table.get(2))
	require.Nil(t, table.get(1<<20))
	require.EqualValues(t, 6, table.get(6).ID)
	n := 0
	table.all(func(s *Series) bool {
		require.Same(t, s, table.get(uint32(s.ID)))
		n++
		return true
	})
	require.Equal(t, 200, n)
	table.all(func(s *Series) bool {
		table.remove(uint32(s.ID))
		return true
	})
	require.Empty(t, table.pages, "what is gone takes no memory")
}
