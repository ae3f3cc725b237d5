package chunks

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/codec/codectest"
	"github.com/promkeep/promkeep/storage/series"
)

// packed returns a row of n samples; late scrapes make its timestamps irregular.
func packed(t testing.TB, id uint64, seed uint64, n int, late bool, times *timesOf) (Row, *series.Set) {
	t.Helper()
	set := &series.Set{}
	r := rand.New(rand.NewPCG(1, seed/4)) // four series of each target
	values := codectest.Kinds()[int(seed)%len(codectest.Kinds())].Values(seed, n)
	for i := range n {
		at := 1_700_000_000_000 + int64(i)*15_000
		if late {
			at += r.Int64N(20)
		}
		set.T, set.V = append(set.T, at), append(set.V, values[i])
	}
	rows, err := encode(nil, id, int32(seed%3), set, times)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	return rows[0], set
}

// tableRow is the bundle as it comes from a table.
func tableRow(b *bundle) Row {
	r := b.head(len(b.rows))
	r.Data = b.appendTo(nil, len(b.rows))
	return r
}

func requireSame(t *testing.T, want *series.Set, got codec.Columns, msg ...any) {
	t.Helper()
	require.Equal(t, want.T, got.T, msg...)
	require.Len(t, got.V, len(want.V))
	for i, v := range want.V {
		require.Equal(t, math.Float64bits(v), math.Float64bits(got.V[i]), msg...)
	}
}

// TestBundle: what goes in comes out, in any range of time, whether timestamps are shared or not.
func TestBundle(t *testing.T) {
	for _, late := range []bool{false, true} {
		b, times := &bundle{}, &timesOf{}
		var sets []*series.Set
		for i := range uint64(24) {
			r, set := packed(t, 7<<metricShift|(100+i*i), i, 480, late, times)
			require.Equal(t, late, r.Times != nil)
			if !b.fits(r) {
				break
			}
			b.add(r)
			sets = append(sets, set)
		}
		require.Greater(t, len(sets), 8)
		var got []Row
		require.NoError(t, unbundle(tableRow(b), func(r Row) error { got = append(got, r); return nil }))
		require.Len(t, got, len(sets))
		for i, r := range got {
			want := b.rows[i]
			require.Equal(t, []any{want.SeriesID, want.Start, want.End, want.N, want.Version, want.Encoding}, []any{r.SeriesID, r.Start, r.End, r.N, r.Version, r.Encoding})
			require.Equal(t, want.Data, r.Data)
			var all codec.Columns
			require.NoError(t, r.decodeRange(&all, math.MinInt64, math.MaxInt64))
			requireSame(t, sets[i], all)
			var some codec.Columns
			require.NoError(t, r.decodeRange(&some, sets[i].T[100], sets[i].T[200]+1))
			requireSame(t, &series.Set{Columns: codec.Columns{T: sets[i].T[100:201], V: sets[i].V[100:201]}}, some)
			var none codec.Columns
			require.NoError(t, r.decodeRange(&none, 0, sets[i].T[0]-1))
			require.NoError(t, r.decodeRange(&none, sets[i].T[479]+1, math.MaxInt64))
			require.Empty(t, none.T)
			alone, err := r.Alone()
			require.NoError(t, err)
			require.Nil(t, alone.Times)
			var again codec.Columns
			require.NoError(t, again.Decode(alone.Data))
			requireSame(t, sets[i], again)
		}
	}
}

// TestBundleSharesTimes: irregular timestamps are kept once for each target.
func TestBundleSharesTimes(t *testing.T) {
	size := func(times *timesOf) int {
		b := &bundle{}
		for i := range uint64(16) {
			r, _ := packed(t, i, i, 480, true, times)
			require.True(t, b.fits(r))
			b.add(r)
		}
		return len(b.appendTo(nil, len(b.rows)))
	}
	own, shared := size(nil), size(&timesOf{})
	_, one := packed(t, 0, 0, 480, true, nil)
	column := len(codec.Append(nil, one.T, make([]float64, 480), nil))
	require.Less(t, shared, own-10*column, "12 of 16 rows of timestamps are saved, of %d bytes each", column)
}

// TestBundleRefers: in the long-term store large rows of timestamps are kept in a table; bundles have their digests, and rows wait for them.
func TestBundleRefers(t *testing.T) {
	b, times := &bundle{refer: true}, &timesOf{}
	var sets []*series.Set
	for i := range uint64(17) {
		n := 480
		if i >= 12 {
			n = 8 // few enough to be kept in the bundle
		}
		r, set := packed(t, 7<<metricShift|i, i, n, true, times)
		b.add(r)
		sets = append(sets, set)
	}
	row := tableRow(b)
	require.EqualValues(t, bundleReferring, row.Data[0])
	require.InDelta(t, b.sizes[len(b.sizes)-1], len(row.Data), 64)
	var known knownTimes
	var got []Row
	wanted := wantedTimes{}
	unpack := func(row Row) {
		t.Helper()
		got = nil
		require.NoError(t, unbundle(row, func(r Row) error {
			r.Times = known.find(r.Times, wanted)
			got = append(got, r)
			return nil
		}))
		require.Len(t, got, len(sets))
	}
	unpack(row)
	require.Len(t, wanted, 3, "targets of 480 samples")
	table := map[timesKey][]byte{}
	for i, r := range b.rows {
		if i < 12 {
			require.ErrorIs(t, got[i].decodeRange(&codec.Columns{}, math.MinInt64, math.MaxInt64), codec.ErrCorrupt, "its timestamps are not there yet")
			require.NotEmpty(t, r.Times.digest)
			table[timesKey{floor(r.Start, Day), r.Times.digest}] = r.Times.row
		}
	}
	for key, at := range wanted {
		require.NotNil(t, table[key])
		at.row, at.own = table[key], true
	}
	for i, r := range got {
		var c codec.Columns
		require.NoError(t, r.decodeRange(&c, math.MinInt64, math.MaxInt64))
		requireSame(t, sets[i], c)
	}
	// What is written again refers again, with its timestamps known or not.
	for _, forget := range []bool{false, true} {
		again := &bundle{refer: true}
		for _, r := range got {
			if forget && r.Times.digest != (digest{}) {
				r.Times = &Times{day: r.Times.day, digest: r.Times.digest}
			}
			again.add(r)
		}
		require.Equal(t, row, tableRow(again))
	}
	// Outside of the long-term store bundles have their timestamps themselves.
	own := &bundle{}
	for _, r := range got {
		own.add(r)
	}
	require.EqualValues(t, bundleVersion, tableRow(own).Data[0])
}

// TestKnownTimesAreBounded: what is remembered of the table has a bound, and what is not remembered is asked for again.
func TestKnownTimesAreBounded(t *testing.T) {
	var known knownTimes
	all := map[timesKey]*Times{}
	for i := range 40 {
		x := &Times{row: make([]byte, 1<<20), own: true, digest: digest{byte(i), 1}}
		all[x.key()] = x
		known.remember(wantedTimes{x.key(): x})
		known.remember(wantedTimes{x.key(): x})
		require.LessOrEqual(t, known.bytes, knownBytes)
		require.Len(t, known.times, min(i+1, knownBytes>>20))
	}
	wanted, found := wantedTimes{}, 0
	for key := range all {
		if known.find(&Times{digest: key.digest}, wanted).row != nil {
			found++
		}
	}
	require.Equal(t, knownBytes>>20, found)
	require.Len(t, wanted, len(all)-found)
}

// TestBundleBounds: a bundle holds one metric, in order, and about bundleBytes.
func TestBundleBounds(t *testing.T) {
	b := &bundle{}
	small, _ := packed(t, 5<<metricShift|9, 1, 20, false, nil)
	require.True(t, b.fits(small))
	b.add(small)
	other := small
	require.True(t, b.fits(other), "a second row of the same series")
	other.SeriesID = 5<<metricShift | 8
	require.False(t, b.fits(other), "not in order")
	other.SeriesID = 6<<metricShift | 10
	require.False(t, b.fits(other), "another metric")
	other.SeriesID, other.Data = 5<<metricShift|10, make([]byte, bundleBytes)
	require.False(t, b.fits(other), "too large")
}

// FuzzBundle: whatever bytes a table holds, reading ends with an error or with rows inside them, and never runs away.
func FuzzBundle(f *testing.F) {
	for _, late := range []bool{false, true} {
		b, times := &bundle{}, &timesOf{}
		for i := range uint64(4) {
			r, _ := packed(f, 100+i, i, 30, late, times)
			b.add(r)
		}
		f.Add(b.appendTo(nil, len(b.rows)))
		b.refer = true
		f.Add(b.appendTo(nil, len(b.rows)))
	}
	f.Add([]byte{1, 0, 255, 255, 255, 255, 15})
	f.Add([]byte{2, 1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		bytes := 0
		err := unbundle(Row{SeriesID: 1, Encoding: EncodingBundle, Data: data}, func(r Row) error {
			bytes += len(r.Data)
			var c codec.Columns
			if r.Encoding == codec.EncodingFloat {
				_ = r.decodeRange(&c, math.MinInt64, math.MaxInt64)
			}
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, codec.ErrCorrupt)
		}
		require.LessOrEqual(t, bytes, len(data))
	})
}

// TestDamagedBundle: each damaged byte is found, in the directory or in a row, or lies in what a row does not need.
func TestDamagedBundle(t *testing.T) {
	b, times := &bundle{}, &timesOf{}
	var sets []*series.Set
	for i := range uint64(3) {
		r, set := packed(t, 100+i, i, 30, true, times)
		b.add(r)
		sets = append(sets, set)
	}
	good := tableRow(b)
	for at := range good.Data {
		bad := good
		bad.Data = append([]byte(nil), good.Data...)
		bad.Data[at] ^= 0x41
		found, i := false, 0
		err := unbundle(bad, func(r Row) error {
			var c codec.Columns
			if err := r.decodeRange(&c, math.MinInt64, math.MaxInt64); err != nil {
				require.ErrorIs(t, err, codec.ErrCorrupt)
				found = true
			} else {
				requireSame(t, sets[i], c, at)
			}
			i++
			return nil
		})
		require.True(t, err != nil || found, "byte %d", at)
	}
}

// TestBundlesFillTheirPages: where more rows follow, a bundle ends where the last piece that PostgreSQL cuts it into is nearly full, whatever the
// rows' sizes, and all rows come out again.
func TestBundlesFillTheirPages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b, times := &bundle{}, &timesOf{}
	var waste, written, bundles int
	var want, got []uint64
	for i := range uint64(2000) {
		row, _ := packed(t, 7<<metricShift|(100+3*i), i, 100+r.IntN(2000), i%3 > 0, times)
		want = append(want, row.SeriesID)
		if !b.fits(row) {
			k := b.cut()
			require.Positive(t, k)
			out := b.head(k)
			out.Data = b.appendTo(nil, k)
			require.Greater(t, len(out.Data), bundleLeast)
			require.InDelta(t, b.sizes[k-1], len(out.Data), 64)
			require.NoError(t, unbundle(out, func(m Row) error { got = append(got, m.SeriesID); return nil }))
			waste += (toastChunk - len(out.Data)%toastChunk) % toastChunk
			written += len(out.Data)
			bundles++
			b.drop(k)
			require.True(t, b.fits(row))
		}
		b.add(row)
	}
	for _, r := range b.rows {
		got = append(got, r.SeriesID)
	}
	require.Equal(t, want, got)
	require.Greater(t, bundles, 10)
	require.Less(t, float64(waste)/float64(written), 0.015, "by chance it is half a piece of each bundle, 3 %%")
	t.Logf("%d bundles of %d bytes, %.1f %% more for pieces that are not full", bundles, written/bundles, 100*float64(waste)/float64(written))
}

// TestSingle: a bundle stands in the long-term store as it is if it has one row for each series, whose IDs all pass, and keeps no timestamps that belong into
// the table of them; a damaged directory never does.
func TestSingle(t *testing.T) {
	all := func(uint64) bool { return true }
	bundleOf := func(late bool, samples int, ids ...uint64) Row {
		b, times := &bundle{}, &timesOf{}
		for i, id := range ids {
			r, _ := packed(t, 7<<metricShift|id, uint64(i), samples, late, times)
			require.True(t, b.fits(r))
			b.add(r)
		}
		return tableRow(b)
	}
	r := bundleOf(false, 40, 1, 2, 5, 900)
	var seen []uint64
	n, ok := single(r, func(id uint64) bool { seen = append(seen, id&(1<<metricShift-1)); return true })
	require.True(t, ok)
	require.EqualValues(t, 4, n)
	require.Equal(t, []uint64{1, 2, 5, 900}, seen)

	_, ok = single(r, func(id uint64) bool { return id&(1<<metricShift-1) != 5 })
	require.False(t, ok, "one does not pass")
	_, ok = single(bundleOf(false, 40, 1, 2, 2, 3), all)
	require.False(t, ok, "two rows of a series")
	_, ok = single(bundleOf(true, 5, 1, 2), all)
	require.True(t, ok, "few shared timestamps")
	_, ok = single(bundleOf(true, 480, 1, 2), all)
	require.False(t, ok, "many shared timestamps")

	b := &bundle{refer: true}
	times := &timesOf{}
	for i := range uint64(3) {
		row, _ := packed(t, 7<<metricShift|i, i, 480, true, times)
		b.add(row)
	}
	_, ok = single(tableRow(b), all)
	require.False(t, ok, "it refers to the table of timestamps")

	_, ok = single(Row{Encoding: EncodingBundle}, all)
	require.False(t, ok)
	directory := len(r.Data)
	for _, m := range func() []Row { rows, err := new(members).of(r); require.NoError(t, err); return rows }() {
		directory -= len(m.Data)
	}
	for i := range directory {
		for bit := range 8 {
			broken := r
			broken.Data = append([]byte(nil), r.Data...)
			broken.Data[i] ^= 1 << bit
			_, ok = single(broken, all)
			require.False(t, ok, "byte %d, bit %d", i, bit)
		}
		cut := r
		cut.Data = r.Data[:i]
		_, ok = single(cut, all)
		require.False(t, ok, "cut off at %d", i)
	}
}
