package head

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
)

// upstream gives PostingsForMatchers the index of Prometheus' own head.
type upstream struct {
	tsdb.IndexReader
	p *index.MemPostings
}

func (u upstream) Postings(ctx context.Context, name string, values ...string) (index.Postings, error) {
	return u.p.Postings(ctx, name, values...), nil
}

func (u upstream) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	return u.p.PostingsForLabelMatching(ctx, name, match)
}

func (u upstream) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	return u.p.PostingsForAllLabelValues(ctx, name)
}

// TestPostingsAreThoseOfPrometheus: after any adding and deleting, every query is answered as index.MemPostings does.
func TestPostingsAreThoseOfPrometheus(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		ours, theirs := newPostings(), index.NewMemPostings()
		var there []*Series
		var ref uint32
		for round := range rounds {
			// Runs of series that are alike, of which some lack labels or have others.
			var batch []*Series
			for range r.IntN(4) {
				target := randomLabels(r)
				for range 1 + r.IntN(60) {
					b := labels.NewBuilder(target)
					for range r.IntN(4) {
						switch name := randomName(r); r.IntN(3) {
						case 0:
							b.Del(name)
						default:
							b.Set(name, randomValue(r, name))
						}
					}
					ref += 1 + uint32(r.IntN(3))
					s := &Series{ref: ref, Labels: b.Labels()}
					batch = append(batch, s)
					theirs.Add(promstorage.SeriesRef(ref), s.Labels)
				}
			}
			ours.add(batch)
			there = append(there, batch...)

			frozen := randomMatchers(r)
			snapshot, err := tsdb.PostingsForMatchers(t.Context(), reader{p: ours}, slices.Clone(frozen)...)
			require.NoError(t, err)
			before := expand(t, upstream{p: theirs}, frozen)

			if round%2 == 1 {
				share := []int{1, 3, 10}[r.IntN(3)] // all of them, a third, or a tenth
				var dead []*Series
				there = slices.DeleteFunc(there, func(s *Series) bool {
					if r.IntN(share) > 0 {
						return false
					}
					dead = append(dead, s)
					return true
				})
				refs, affected := map[promstorage.SeriesRef]struct{}{}, map[labels.Label]struct{}{}
				for _, s := range dead {
					refs[promstorage.SeriesRef(s.ref)] = struct{}{}
					s.Labels.Range(func(l labels.Label) { affected[l] = struct{}{} })
				}
				r.Shuffle(len(dead), func(i, j int) { dead[i], dead[j] = dead[j], dead[i] })
				ours.delete(dead)
				theirs.Delete(refs, affected)
			}
			after, err := index.ExpandPostings(snapshot)
			require.NoError(t, err)
			require.Equal(t, before, after, "what was taken before stays as it was: %v", frozen)

			for range 100 {
				ms := randomMatchers(r)
				require.Equal(t, expand(t, upstream{p: theirs}, ms), expand(t, reader{p: ours}, ms), "%v", ms)
			}
			all, err := index.ExpandPostings(ours.All())
			require.NoError(t, err)
			require.Len(t, all, len(there))
			require.ElementsMatch(t, theirs.LabelNames(), ours.LabelNames())
			require.Nil(t, ours.LabelValues("absent"))
			for _, name := range names {
				require.ElementsMatch(t, theirs.LabelValues(t.Context(), name, nil), ours.LabelValues(name))
			}
			for _, limit := range []int{0, 1, 5, 1000} {
				want := theirs.Stats("a", limit, func(name, value string, n uint64) uint64 { return uint64(len(name)+len(value)) * n })
				got := ours.Stats("a", limit)
				require.Equal(t, want.NumLabelPairs, got.NumLabelPairs)
				sameStats(t, limit, want.CardinalityMetricsStats, got.CardinalityMetricsStats)
				sameStats(t, limit, want.CardinalityLabelStats, got.CardinalityLabelStats)
				sameStats(t, limit, want.LabelValueStats, got.LabelValueStats)
				sameStats(t, limit, want.LabelValuePairsStats, got.LabelValuePairsStats)
			}
		}
		ours.delete(there)
		require.Len(t, ours.names, 1, "what is gone takes no memory")
		require.Empty(t, expand(t, reader{p: ours}, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "absent", "")}))
	}
}

var names = []string{"__name__", "a", "b", "c", "unique", "é"}

func randomName(r *rand.Rand) string { return names[r.IntN(len(names))] }

func randomValue(r *rand.Rand, name string) string {
	if name == "unique" {
		return fmt.Sprint(r.Uint64())
	}
	return strings.Repeat(string(rune('a'+r.IntN(5))), 1+r.IntN(3))
}

func randomLabels(r *rand.Rand) labels.Labels {
	var b labels.ScratchBuilder
	for _, name := range names {
		if r.IntN(4) > 0 {
			b.Add(name, randomValue(r, name))
		}
	}
	b.Sort()
	return b.Labels()
}

func randomMatchers(r *rand.Rand) []*labels.Matcher {
	var ms []*labels.Matcher
	for range 1 + r.IntN(3) {
		name := append(names, "absent")[r.IntN(len(names)+1)]
		v := randomValue(r, "")
		typ := labels.MatchType(r.IntN(4))
		if typ == labels.MatchEqual || typ == labels.MatchNotEqual {
			v = []string{v, ""}[r.IntN(4)/3]
		} else {
			v = []string{v, "", ".*", ".+", v + ".*", ".*" + v, "a|bb|ccc", v + "|", "[ab]+", "(" + v + ")?"}[r.IntN(10)]
		}
		ms = append(ms, labels.MustNewMatcher(typ, name, v))
	}
	return ms
}

func expand(t *testing.T, r tsdb.IndexReader, ms []*labels.Matcher) []promstorage.SeriesRef {
	p, err := tsdb.PostingsForMatchers(t.Context(), r, slices.Clone(ms)...)
	require.NoError(t, err)
	refs, err := index.ExpandPostings(p)
	require.NoError(t, err)
	return refs
}

// sameStats: of those with the same count, which there is room for is left open.
func sameStats(t *testing.T, limit int, want, got []index.Stat) {
	counts := func(all []index.Stat) (out []uint64) {
		for _, s := range all {
			out = append(out, s.Count)
		}
		return out
	}
	require.Equal(t, counts(want), counts(got))
	if len(want) < limit {
		require.ElementsMatch(t, want, got)
	}
}

// TestCursor: any order of steps and leaps leads where Prometheus' own leads.
func TestCursor(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		var refs []uint32
		var same []promstorage.SeriesRef
		ref := uint32(0)
		for range r.IntN(40) {
			ref += 1 + uint32(r.IntN(5))
			refs, same = append(refs, ref), append(same, promstorage.SeriesRef(ref))
		}
		ours, theirs := index.Postings(&cursor{rest: refs}), index.NewListPostings(same)
		for range 20 {
			var want bool
			if r.IntN(2) == 0 {
				want = theirs.Next()
				require.Equal(t, want, ours.Next())
			} else {
				to := theirs.At() + 1 + promstorage.SeriesRef(r.IntN(1+r.IntN(60)))
				if r.IntN(50) == 0 {
					to = 1 << 40
				}
				want = theirs.Seek(to)
				require.Equal(t, want, ours.Seek(to))
			}
			if !want {
				break
			}
			require.Equal(t, theirs.At(), ours.At())
		}
		require.NoError(t, ours.Err())
	}
}

// TestReadersWhileSeriesComeAndGo: series that stay are found by every query at every moment, and of the others none that does not match.
func TestReadersWhileSeriesComeAndGo(t *testing.T) {
	h := New()
	tenant := h.Tenant(1)
	const staying, targets = 300, 5
	lset := func(i int, kind string) labels.Labels {
		return labels.FromStrings("__name__", fmt.Sprintf("m%d", i%20), "i", fmt.Sprint(i), "kind", kind, "target", fmt.Sprint(i/20%targets))
	}
	for i := range staying {
		h.Append(tenant.Add(Key{}, uint64(i+1), lset(i, "stays"), 0), 1, 0, 1)
	}
	rounds := 150
	if testing.Short() {
		rounds = 40
	}
	eq := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	re := func(name, value string) *labels.Matcher {
		return labels.MustNewMatcher(labels.MatchRegexp, name, value)
	}
	queries := [][]*labels.Matcher{
		{eq("target", "1")},
		{eq("__name__", "m3"), re("target", "1|2")},
		{re("kind", "stay.*")},
		{re("i", ".+"), labels.MustNewMatcher(labels.MatchNotEqual, "target", "0")},
		{eq("absent", ""), labels.MustNewMatcher(labels.MatchNotRegexp, "kind", "g.*")},
		{labels.MustNewMatcher(labels.MatchNotRegexp, "i", ".*7.*")},
		{re("i", ".*7.*")},
	}
	want := make([]int, len(queries))
	matches := func(ms []*labels.Matcher, l labels.Labels) bool {
		return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
	}
	for q, ms := range queries {
		for i := range staying {
			if matches(ms, lset(i, "stays")) {
				want[q]++
			}
		}
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for id := range 2 {
		wg.Go(func() {
			for n := id; !done.Load(); n++ {
				q := n % len(queries)
				found, err := tenant.Select(t.Context(), slices.Clone(queries[q])...)
				if err != nil {
					t.Error(err)
					return
				}
				stays := 0
				for i, s := range found {
					if s.Labels.Get("kind") == "stays" {
						stays++
					}
					if !matches(queries[q], s.Labels) || i > 0 && found[i-1].ref >= s.ref {
						t.Errorf("%v: %s, after another with place %d", queries[q], s.Labels, s.ref)
					}
				}
				if stays != want[q] {
					t.Errorf("%v: %d of %d series that stay", queries[q], stays, want[q])
				}
				values, err := tenant.LabelValues(t.Context(), "i", nil)
				slices.Sort(values)
				if err != nil || len(values) < staying || len(slices.Compact(values)) != len(values) {
					t.Errorf("%d values of i, and some twice or not at all: %v", len(values), err)
				}
				names, err := tenant.LabelNames(t.Context(), nil)
				if err != nil || len(names) != 4 {
					t.Errorf("label names %v: %v", names, err)
				}
				if st := tenant.Stats("__name__", 3); len(st.CardinalityMetricsStats) != 3 {
					t.Errorf("%v", st)
				}
			}
		})
	}
	// One writer creates series, and again those that were collected, while another goroutine collects.
	collect := make(chan struct{})
	wg.Go(func() {
		for range collect {
			h.Collect(func(*Series) {})
		}
	})
	r := rand.New(rand.NewPCG(7, 7))
	for round := range rounds {
		var entries []Entry
		first := staying + r.IntN(2000)
		for i := range 1 + r.IntN(1200) {
			l := lset(first+i, "goes")
			entries = append(entries, Entry{Labels: l, Hash: Hash(l), ID: uint64(round<<20 + i + 1000)})
		}
		tenant.AddAll(entries)
		h.Advance()
		if round%3 == 2 {
			collect <- struct{}{}
		}
	}
	close(collect)
	done.Store(true)
	wg.Wait()
	require.NotZero(t, tenant.Len()-staying, "there is something to look for")
	var there []*Series
	tenant.byRef.all(func(s *Series) bool {
		there = append(there, s)
		return true
	})
	wantValues := map[string]struct{}{}
	for _, s := range there {
		wantValues[s.Labels.Get("i")] = struct{}{}
	}
	values, err := tenant.LabelValues(t.Context(), "i", nil)
	require.NoError(t, err)
	require.ElementsMatch(t, keys(wantValues), values)
	for _, ms := range queries {
		found, err := tenant.Select(t.Context(), slices.Clone(ms)...)
		require.NoError(t, err)
		require.ElementsMatch(t, slices.DeleteFunc(slices.Clone(there), func(s *Series) bool { return !matches(ms, s.Labels) }), found, "%v", ms)
	}
	h.Advance()
	h.Advance()
	h.Collect(func(*Series) {})
	require.Equal(t, staying, tenant.Len())
	require.Len(t, expand(t, reader{p: tenant.postings}, queries[0]), want[0])
	values, err = tenant.LabelValues(t.Context(), "i", nil)
	require.NoError(t, err)
	require.Len(t, values, staying)
	require.Len(t, tenant.postings.names["i"].lists, staying, "what is gone takes no memory")
}

// TestAddingWhileDeleting: series that are added while others are taken out of the same lists are there afterwards, and so are their values.
func TestAddingWhileDeleting(t *testing.T) {
	p := newPostings()
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	ref := uint32(0)
	grow := func(n int) (added []*Series) {
		for range n {
			ref++
			s := &Series{ref: ref, Labels: labels.FromStrings("all", "the same", "few", fmt.Sprint(ref%7), "unique", fmt.Sprint(ref))}
			p.add([]*Series{s})
			added = append(added, s)
		}
		return added
	}
	there := grow(4000)
	for range rounds {
		dead := slices.Clone(there[:2000])
		deleted := make(chan struct{})
		go func() {
			defer close(deleted)
			p.delete(dead)
		}()
		there = append(there[len(dead):], grow(2000)...)
		for running := true; running && len(there) < 30_000; {
			there = append(there, grow(1)...)
			select {
			case <-deleted:
				running = false
			default:
			}
		}
		<-deleted
	}
	all := make([]promstorage.SeriesRef, len(there))
	unique := make([]string, len(there))
	for i, s := range there {
		all[i], unique[i] = promstorage.SeriesRef(s.ref), s.Labels.Get("unique")
	}
	eq := labels.MustNewMatcher(labels.MatchEqual, "all", "the same")
	require.Equal(t, all, expand(t, reader{p: p}, []*labels.Matcher{eq}))
	require.Equal(t, all, expand(t, reader{p: p}, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "few", "[0-6]")}))
	require.Equal(t, all, expand(t, reader{p: p}, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "unique", ".+")}))
	require.ElementsMatch(t, unique, p.LabelValues("unique"))
	require.Len(t, p.LabelValues("few"), 7)
}
