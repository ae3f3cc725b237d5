package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"
)

// blockName is an ULID.
var blockName = regexp.MustCompile("^[0-7][0-9A-HJKMNP-TV-Z]{25}$")

// Blocks imports the TSDB blocks in a directory, such as the data directory of a Prometheus or a snapshot of it, or one
// block. A day is read from all blocks that overlap it, as Prometheus would. Blocks that go away meanwhile do no harm: they
// are open.
func (im *Importer) Blocks(ctx context.Context, dir string) (err error) {
	blocks, err := im.openBlocks(dir)
	if err != nil {
		return err
	}
	defer func() {
		for _, b := range blocks {
			err = errors.Join(err, b.Close())
		}
	}()
	byDay := map[int64][]*tsdb.Block{}
	for _, b := range blocks {
		im.countOld(b.Meta())
		first, last, ok := im.within(b.Meta())
		if !ok {
			continue
		}
		for start := dayOf(first); start <= last; start += dayMillis {
			byDay[start] = append(byDay[start], b)
		}
		im.Progress.Expect(share(b.Meta(), first, last))
	}
	starts := make([]int64, 0, len(byDay))
	for start := range byDay {
		starts = append(starts, start)
	}
	slices.Sort(starts)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(im.Concurrency)
	for _, start := range starts {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := im.blocksOfDay(ctx, start, byDay[start]); err != nil {
				return fmt.Errorf("%s: %w", date(start), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// openBlocks opens the blocks in the directory that have samples in the range.
func (im *Importer) openBlocks(dir string) (blocks []*tsdb.Block, err error) {
	defer func() {
		if err != nil {
			for _, b := range blocks {
				b.Close()
			}
		}
	}()
	var dirs []string
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err == nil {
		dirs = []string{dir}
	} else {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() || !blockName.MatchString(e.Name()) {
				if e.Name() == "wal" {
					im.Logger.Warn("the samples in the write-ahead log are in no block yet and are not imported; " +
						"a snapshot (POST /api/v1/admin/tsdb/snapshot) has them in blocks")
				}
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, e.Name(), "meta.json")); err != nil {
				im.Logger.Warn("a block without meta.json is still being written or was deleted, and is left out", "block", e.Name())
				continue
			}
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("there is no TSDB block in %s: a block is a directory with a file meta.json and a name such as 01HZXV6QW3N5Q4W9K6JAYQ0Z1R", dir)
	}
	for _, d := range dirs {
		b, err := tsdb.OpenBlock(im.Logger, d, nil, nil)
		if err != nil {
			return blocks, fmt.Errorf("block %s: %w", d, err)
		}
		blocks = append(blocks, b)
	}
	// In the order in which Prometheus reads them.
	slices.SortFunc(blocks, func(a, b *tsdb.Block) int {
		if a.Meta().MinTime != b.Meta().MinTime {
			if a.Meta().MinTime < b.Meta().MinTime {
				return -1
			}
			return 1
		}
		return a.Meta().ULID.Compare(b.Meta().ULID)
	})
	return blocks, nil
}

// within is the part of a block that is wanted, in ms, inclusive.
func (im *Importer) within(m tsdb.BlockMeta) (first, last int64, ok bool) {
	first, last = max(m.MinTime, im.Mint), min(m.MaxTime-1, im.Maxt)
	return first, last, first <= last
}

// countOld counts about how many samples of a block are asked for and too old to be taken.
func (im *Importer) countOld(m tsdb.BlockMeta) {
	first, last := max(m.MinTime, im.asked.Mint), min(m.MaxTime-1, im.asked.Maxt, im.Mint-1)
	if first <= last {
		im.to.Stats.TooOld.Add(share(m, first, last))
	}
}

// share is about how many samples of a block lie in [first, last].
func share(m tsdb.BlockMeta, first, last int64) int64 {
	return int64(float64(m.Stats.NumSamples) * float64(last-first+1) / float64(max(m.MaxTime-m.MinTime, 1)))
}

func (im *Importer) blocksOfDay(ctx context.Context, start int64, blocks []*tsdb.Block) (err error) {
	d := day{start: start, mint: max(start, im.Mint), maxt: min(start+dayMillis-1, im.Maxt)}
	names := make([]string, 0, len(blocks))
	expected := int64(0)
	for _, b := range blocks {
		m := b.Meta()
		names = append(names, m.ULID.String())
		d.until = max(d.until, m.MaxTime-1)
		if first, last, ok := im.within(m); ok {
			expected += share(m, max(first, d.mint), min(last, d.maxt))
		}
	}
	slices.Sort(names)
	d.source = im.source(append(names, "blocks", im.cut(start))...)
	marks, err := im.marks(ctx, d.source)
	if err != nil {
		return err
	}
	d.mark = marks[start]
	if d.mark.Finished {
		im.Progress.Skip(expected)
		return nil
	}
	im.Progress.Skip(min(d.mark.Samples, expected))
	queriers := make([]promstorage.Querier, 0, len(blocks))
	defer func() {
		for _, q := range queriers {
			err = errors.Join(err, q.Close())
		}
	}()
	for _, b := range blocks {
		q, err := tsdb.NewBlockQuerier(b, d.mint, d.maxt)
		if err != nil {
			return err
		}
		queriers = append(queriers, q)
	}
	merged := promstorage.NewMergeQuerier(queriers, nil, promstorage.ChainedSeriesMerge)
	selectors := im.Matchers
	if len(selectors) == 0 {
		selectors = [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "", "")}} // the postings of all series
	}
	return im.copy(ctx, d, selectAll(ctx, merged, selectors, d))
}

// selectAll selects the series that match one of the selectors, in the order of labels.
func selectAll(ctx context.Context, q promstorage.Querier, selectors [][]*labels.Matcher, d day) promstorage.SeriesSet {
	var sets []promstorage.SeriesSet
	for _, ms := range selectors {
		sets = append(sets, q.Select(ctx, true, &promstorage.SelectHints{Start: d.mint, End: d.maxt}, ms...))
	}
	if len(sets) == 1 {
		return sets[0]
	}
	return promstorage.NewMergeSeriesSet(sets, 0, promstorage.ChainedSeriesMerge)
}

// cut says which part of a day is wanted, if that is not all of it because of what was asked for.
func (im *Importer) cut(start int64) string {
	mint, maxt := int64(0), dayMillis-1
	if im.asked.Mint != math.MinInt64 {
		mint = max(mint, im.asked.Mint-start)
	}
	if im.asked.Maxt != math.MaxInt64 {
		maxt = min(maxt, im.asked.Maxt-start)
	}
	return fmt.Sprintf("%d-%d", mint, maxt)
}
