package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"golang.org/x/sync/errgroup"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/series"
)

// RemoteReadOptions say how to ask a remote_read endpoint.
type RemoteReadOptions struct {
	URL     string
	Client  configutil.HTTPClientConfig
	Timeout time.Duration // of one request, its answer included
	Window  time.Duration // of one request; 0 is a day. Halved while the endpoint says that it is too much
}

// minWindow is the shortest time that is asked for at once.
const minWindow = time.Minute

// RemoteRead imports what a remote_read endpoint has: day by day, each in one request or several. It needs a beginning. Answers of
// streamed chunks are preferred, which need little memory on both sides; an endpoint that knows only samples gives those.
func (im *Importer) RemoteRead(ctx context.Context, o RemoteReadOptions) error {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no URL of a remote_read endpoint, such as http://prometheus.example:9090/api/v1/read", o.URL)
	}
	if im.asked.Mint == math.MinInt64 {
		return errors.New("--from is needed: how far back the endpoint has samples cannot be asked")
	}
	client, err := remote.NewReadClient("import", &remote.ClientConfig{
		URL:                   &configutil.URL{URL: u},
		Timeout:               model.Duration(o.Timeout),
		HTTPClientConfig:      o.Client,
		ChunkedReadLimit:      config.DefaultChunkedReadLimit,
		AcceptedResponseTypes: remote.AcceptedResponseTypes,
	})
	if err != nil {
		return err
	}
	maxt := min(im.Maxt, time.Now().UnixMilli())
	r := &reader{im: im, client: client, window: o.Window.Milliseconds()}
	if r.window <= 0 {
		r.window = dayMillis
	}
	im.Progress.Expect(max(maxt-im.Mint+1, 0))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(im.Concurrency)
	for start := dayOf(im.Mint); start <= maxt && ctx.Err() == nil; start += dayMillis {
		group.Go(func() error {
			d := day{start: start, mint: max(start, im.Mint), maxt: min(start+dayMillis-1, maxt)}
			// The password that a URL may have is no part of what is asked for.
			d.source = im.source("remote read", u.Host, u.Path, u.RawQuery, im.cut(start))
			if err := r.day(ctx, d); err != nil {
				return fmt.Errorf("%s: %w", date(start), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// reader asks one endpoint.
type reader struct {
	im     *Importer
	client remote.ReadClient
	window int64 // ms
}

// day imports a day, in as many windows as it takes. What is noted of a day that is not over is up to which time it came.
func (r *reader) day(ctx context.Context, d day) error {
	marks, err := r.im.marks(ctx, d.source)
	if err != nil {
		return err
	}
	d.mark = marks[d.start]
	from := d.mint
	// The endpoint may have more of a day that was not over when it was asked.
	if d.mark.Finished {
		r.im.Progress.Skip(d.maxt - d.mint + 1)
		return nil
	}
	if d.mark.Cursor != "" {
		upto, err := strconv.ParseInt(d.mark.Cursor, 10, 64)
		if err != nil {
			return fmt.Errorf("how far an earlier import came cannot be read: %q; --again begins at the start", d.mark.Cursor)
		}
		from = max(from, upto)
		r.im.Progress.Skip(max(from-d.mint, 0))
	}
	batch := r.im.to.NewBatch(true)
	for window := r.window; from <= d.maxt; {
		if err := ctx.Err(); err != nil {
			return err
		}
		upto := min(from+window-1, d.maxt)
		err := r.read(ctx, batch, d, from, upto)
		if tooMuch(err) && ctx.Err() == nil && window > minWindow.Milliseconds() {
			window /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("%s to %s: %w", date(from), date(upto), err)
		}
		r.im.Progress.Add(upto - from + 1)
		from = upto + 1
		if finished := from > d.maxt; finished || batch.Full() {
			mark := storage.Mark{Unit: d.start, Cursor: r.cursor(d, from), Finished: finished && over(d)}
			if err := batch.Commit(ctx, d.source, mark); err != nil {
				return err
			}
		}
	}
	return nil
}

// read asks for [from, upto] and adds the answer to the batch.
func (r *reader) read(ctx context.Context, batch *storage.ImportBatch, d day, from, upto int64) error {
	selectors := r.im.Matchers
	if len(selectors) == 0 {
		selectors = [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+")}}
	}
	for _, ms := range selectors {
		query, err := remote.ToQuery(from, upto, ms, &promstorage.SelectHints{Start: from, End: upto})
		if err != nil {
			return err
		}
		if err := r.ask(ctx, query, batch, d, from, upto); err != nil {
			return err
		}
	}
	return nil
}

// attempts is how often a request is sent that fails for a reason that passes.
const attempts = 5

// ask sends a request, and again after a fault that passes: what an answer that broke off has brought changes nothing.
func (r *reader) ask(ctx context.Context, query *prompb.Query, batch *storage.ImportBatch, d day, from, upto int64) error {
	for attempt := 1; ; attempt++ {
		set, err := r.client.Read(ctx, query, false)
		if err == nil {
			err = r.take(ctx, set, batch, d, from, upto)
		}
		if err == nil || attempt == attempts || ctx.Err() != nil || tooMuch(err) || refused(err) {
			return err
		}
		r.im.Logger.Warn("the endpoint did not answer; trying again", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(attempt*attempt) * time.Second):
		}
	}
}

// take adds the series of an answer. The batch is committed when it is full; the mark stays where this request began.
func (r *reader) take(ctx context.Context, set promstorage.SeriesSet, batch *storage.ImportBatch, d day, from, upto int64) error {
	var (
		builder = labels.NewBuilder(labels.EmptyLabels())
		samples series.Set
		it      chunkenc.Iterator
	)
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := set.At()
		it = s.Iterator(it)
		n, err := load(&samples, it, from, upto)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Labels(), err)
		}
		if n == 0 {
			continue
		}
		if err := r.im.add(batch, r.im.external(builder, s.Labels()), from, &samples); err != nil {
			return err
		}
		if batch.Full() {
			if err := batch.Commit(ctx, d.source, storage.Mark{Unit: d.start, Cursor: r.cursor(d, from)}); err != nil {
				return err
			}
		}
	}
	return set.Err()
}

// cursor notes up to when a day was read. One that is not over is not noted: the endpoint may get more of it.
func (r *reader) cursor(d day, upto int64) string {
	if !over(d) {
		return ""
	}
	return strconv.FormatInt(upto, 10)
}

// over tells whether all samples of a day have arrived.
func over(d day) bool { return d.start+dayMillis <= time.Now().Add(-time.Hour).UnixMilli() }

// tooMuch tells whether less should be asked for at once.
func tooMuch(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "exceeded sample limit") ||
		strings.Contains(text, "returned http status 413") || strings.Contains(text, "returned http status 422")
}

// refused tells whether the endpoint will never answer. The client gives the status as text only.
func refused(err error) bool {
	_, status, found := strings.Cut(err.Error(), "returned http status ")
	return found && status[0] == '4' && !strings.HasPrefix(status, "429") && !strings.HasPrefix(status, "408")
}
