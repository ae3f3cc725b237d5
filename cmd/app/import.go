package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/cmd/importer"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/postgres"
)

// imports is the command that brings history in.
type imports struct {
	blocks, openMetrics, remoteRead string // names of the subcommands

	db          database
	tenant      string
	labels      map[string]string
	from, to    string
	match       []string
	retention   model.Duration
	dryRun      bool
	again       bool
	concurrency int
	batch       int64
	wait        time.Duration

	dir, file, url string
	httpConfig     string
	timeout        model.Duration
	window         model.Duration
}

func newImport(a *kingpin.Application) *imports {
	i := &imports{labels: map[string]string{}}
	cmd := a.Command("import", "Bring history in, beside a promkeep that serves or without one. An import that was stopped goes on where it was; one that is done again changes no answer.")
	i.db.register(cmd)
	cmd.Flag("tenant", "Tenant that the series belong to.").Default(storage.DefaultTenant).StringVar(&i.tenant)
	cmd.Flag("label", "Label to add to series that have none of the name, as name=value: what Prometheus has as external labels, which are not in its blocks.").StringMapVar(&i.labels)
	cmd.Flag("from", "Leave out what is older: 2026-01-31, 2026-01-31T12:00:00Z, or seconds since 1970.").StringVar(&i.from)
	cmd.Flag("to", "Leave out what is younger.").StringVar(&i.to)
	cmd.Flag("match", `Import only series that match the selector, such as '{job="node"}'.`).StringsVar(&i.match)
	cmd.Flag("storage.retention.time", "How long samples are kept, as serve is told: older ones are not imported.").Default("90d").SetValue(&i.retention)
	cmd.Flag("dry-run", "Read everything and count, but write nothing. A database that is given is asked for what was imported already.").BoolVar(&i.dryRun)
	cmd.Flag("again", "Begin at the start, although an earlier import came further.").BoolVar(&i.again)
	cmd.Flag("concurrency", "Days to import at the same time.").Default("2").IntVar(&i.concurrency)
	cmd.Flag("batch-size", "Samples to commit together, about. Small batches need less memory and make more work for merges.").Default("4194304").Int64Var(&i.batch)
	cmd.Flag("wait", "How long to wait for a database that does not answer.").Default("1m").DurationVar(&i.wait)

	blocks := cmd.Command("blocks", "Import TSDB blocks, of a Prometheus' data directory or a snapshot of it.")
	blocks.Arg("directory", "Directory with blocks, or one block.").Required().StringVar(&i.dir)
	openMetrics := cmd.Command("openmetrics", "Import OpenMetrics text with timestamps, as promtool and exporters of other systems write it.")
	openMetrics.Arg("file", "File, or - for standard input.").Required().StringVar(&i.file)
	remoteRead := cmd.Command("remote-read", "Import from a remote_read endpoint, of Prometheus, Thanos, Cortex, Mimir, Promscale and others.")
	remoteRead.Arg("url", "URL of the endpoint, such as http://prometheus.example:9090/api/v1/read.").Required().StringVar(&i.url)
	remoteRead.Flag("http.config.file", "File with authentication, TLS and headers for the endpoint, as in Prometheus' remote_read section.").StringVar(&i.httpConfig)
	remoteRead.Flag("timeout", "How long one request may take, its answer included.").Default("30m").SetValue(&i.timeout)
	remoteRead.Flag("window", "How much time to ask for at once, at most a day; less if the endpoint says that it is too much.").Default("1d").SetValue(&i.window)
	i.blocks, i.openMetrics, i.remoteRead = blocks.FullCommand(), openMetrics.FullCommand(), remoteRead.FullCommand()
	return i
}

func (i *imports) run(ctx context.Context, command string, logger *slog.Logger) error {
	opts, err := i.options(logger)
	if err != nil {
		return err
	}
	uri, done, err := i.database(ctx, logger)
	if err != nil {
		return err
	}
	defer done()
	openCtx, cancel := context.WithTimeout(ctx, i.wait)
	defer cancel()
	to, err := storage.OpenImport(openCtx, storage.Config{
		URI: uri, TimescaleDB: i.db.mode(), Retention: time.Duration(i.retention), Logger: logger.With("component", "storage"),
	}, storage.ImportOptions{Tenant: i.tenant, DryRun: i.dryRun, BatchSamples: i.batch})
	if err != nil {
		return err
	}
	defer to.Close()
	began := time.Now()
	opts.Progress = importer.NewProgress(terminal(os.Stderr), logger, to.Stats.Samples.Load)
	im := importer.New(to, opts)
	switch command {
	case i.blocks:
		err = im.Blocks(ctx, i.dir)
	case i.openMetrics:
		err = im.OpenMetrics(ctx, i.file)
	case i.remoteRead:
		var remote importer.RemoteReadOptions
		if remote, err = i.remote(); err == nil {
			err = im.RemoteRead(ctx, remote)
		}
	}
	opts.Progress.Close()
	fmt.Print(i.summary(to, opts.Progress, time.Since(began), err))
	if err != nil {
		return err
	}
	return settle(ctx, to, logger)
}

// settle waits for the promkeep that serves to answer with what was imported.
func settle(ctx context.Context, to *storage.Import, logger *slog.Logger) error {
	const wait = 5 * time.Minute
	visible, err := to.Settle(ctx, wait)
	if err == nil && !visible {
		logger.Warn("what was imported of the last hours is not in the answers of the promkeep that serves yet; it will be when that has done its background work", "waited", wait)
	}
	return err
}

// options of all sources.
func (i *imports) options(logger *slog.Logger) (o importer.Options, err error) {
	o = importer.Options{
		Tenant: i.tenant, Labels: labels.FromMap(i.labels), Mint: math.MinInt64, Maxt: math.MaxInt64,
		Again: i.again, Concurrency: i.concurrency, Logger: logger,
	}
	if i.batch <= 0 || i.concurrency <= 0 {
		return o, errors.New("--batch-size and --concurrency must be above 0")
	}
	if err := tenancy.Check(i.tenant); err != nil {
		return o, fmt.Errorf("--tenant: %w", err)
	}
	for name := range i.labels {
		if !model.UTF8Validation.IsValidLabelName(name) || name == model.MetricNameLabel {
			return o, fmt.Errorf("--label: %q is no name for a label", name)
		}
	}
	if i.from != "" {
		if o.Mint, err = importer.ParseTime(i.from); err != nil {
			return o, fmt.Errorf("--from: %w", err)
		}
	}
	if i.to != "" {
		if o.Maxt, err = importer.ParseTime(i.to); err != nil {
			return o, fmt.Errorf("--to: %w", err)
		}
	}
	p := parser.NewParser(parser.Options{})
	for _, text := range i.match {
		ms, err := p.ParseMetricSelector(text)
		if err != nil {
			return o, fmt.Errorf("--match %s: %w", text, err)
		}
		o.Matchers = append(o.Matchers, ms)
	}
	return o, nil
}

// database returns the URI to import to, which may be that of a server that another promkeep runs, or none in a dry run.
func (i *imports) database(ctx context.Context, logger *slog.Logger) (string, func(), error) {
	done := func() {}
	given, err := postgres.ResolveURI(i.db.uri, i.db.uriFile, os.Getenv(postgres.URIEnv))
	if err != nil {
		return "", done, err
	}
	if given.Value == "" {
		dir, err := absolute(i.db.dataDir)
		if err != nil {
			return "", done, err
		}
		if i.dryRun {
			uri, err := postgres.RunningURI(dir)
			if err != nil {
				logger.Info("no database is given: what was imported already is not known")
			}
			return uri, done, nil
		}
	}
	uri, server, err := i.db.open(ctx, logger)
	if errors.Is(err, postgres.ErrLocked) {
		// A promkeep serves there: beside it.
		dir, _ := absolute(i.db.dataDir)
		if running, other := postgres.RunningURI(dir); other == nil {
			return running, done, nil
		}
	}
	if err != nil {
		return "", done, err
	}
	if server != nil {
		done = func() { stopPostgres(server, logger) }
	}
	return uri.Value, done, nil
}

// remote are the options of remote read.
func (i *imports) remote() (importer.RemoteReadOptions, error) {
	o := importer.RemoteReadOptions{
		URL: i.url, Client: configutil.DefaultHTTPClientConfig, Timeout: time.Duration(i.timeout), Window: time.Duration(i.window),
	}
	if i.httpConfig == "" {
		return o, nil
	}
	cfg, _, err := configutil.LoadHTTPConfigFile(i.httpConfig)
	if err != nil {
		return o, fmt.Errorf("--http.config.file: %w", err)
	}
	o.Client = *cfg
	return o, nil
}

// summary says what was done.
func (i *imports) summary(to *storage.Import, p *importer.Progress, took time.Duration, err error) string {
	s := &to.Stats
	samples := s.Samples.Load()
	var b strings.Builder
	switch {
	case err != nil:
		b.WriteString("stopped before the end; the same command goes on from here\n")
	case i.dryRun:
		b.WriteString("dry run: nothing was written\n")
	}
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-18s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("samples", "%d", samples)
	line("series", "%d", s.Series.Load())
	line("time", "%s, %.0f samples/s", took.Round(time.Millisecond), float64(samples)/max(took.Seconds(), 1e-9))
	if n := s.Bytes.Load(); n > 0 {
		line("packed", "%s in %d parts, %.2f bytes/sample", units.Base2Bytes(n/1024*1024), s.Parts.Load(), float64(n)/float64(max(samples, 1)))
	}
	if share := p.Skipped(); share > 0 {
		line("imported before", "%.1f %%", 100*share)
	}
	for _, left := range []struct {
		n    int64
		what string
	}{
		{s.TooOld.Load(), "samples older than the retention, " + i.retention.String()},
		{s.TooNew.Load(), "samples in the future"},
		{s.BadSeries.Load(), "series with labels that cannot be stored"},
		{s.BadSamples.Load(), "histograms that are not valid"},
	} {
		if left.n > 0 {
			line("left out", "about %d %s", left.n, left.what)
		}
	}
	return b.String()
}

// terminal returns the file if it is a terminal.
func terminal(f *os.File) io.Writer {
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return f
}
