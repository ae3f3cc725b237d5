package bench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/postgres"
)

// catalogueBench is the command "bench catalogue": how many bytes a series takes, how fast series are created and replaced, and how
// long label queries take over series that are not in memory.
type catalogueBench struct {
	dir      string
	series   int
	replaced int
}

func (b *catalogueBench) register(parent *kingpin.CmdClause) string {
	cmd := parent.Command("catalogue", "Create series in promkeep on PostgreSQL, replace some, and ask for labels when all have ended.")
	cmd.Flag("dir", "Where data is kept meanwhile; a temporary directory if not given. PostgreSQL must be able to reach it.").StringVar(&b.dir)
	cmd.Flag("series", "Series that are created.").Default("31000").IntVar(&b.series)
	cmd.Flag("replaced", "Series that a rollout replaces afterwards, at most.").Default("100000").IntVar(&b.replaced)
	return cmd.FullCommand()
}

//go:embed catalogue.sql
var catalogueSizes string

func (b *catalogueBench) run(ctx context.Context, _ *slog.Logger) (err error) {
	if b.series < 1 || b.replaced < 0 {
		return errors.New("--series must be above zero, --replaced not below")
	}
	base, remove, err := workDir(b.dir)
	if err != nil {
		return err
	}
	defer remove()
	dir := filepath.Join(base, "catalogue")
	defer os.RemoveAll(dir)
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, TimescaleDB: postgres.TimescaleOff})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServer(server)) }()
	now := &atomic.Int64{}
	start := time.Now().UnixMilli()
	now.Store(start)
	db, err := storage.Open(ctx, storage.Config{
		URI: server.URI(), TimescaleDB: schema.TimescaleDBOff, NoMaintenance: true,
		Now: func() time.Time { return time.UnixMilli(now.Load()) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	note("%d cores, load before: %s", runtime.NumCPU(), machineLoad())

	first, second := Load{Series: b.series, Seed: 1}, Load{Series: b.series, Seed: 2}
	created := make([]labels.Labels, b.series)
	var replaced []labels.Labels
	for i := range created {
		created[i] = first.Labels(i, 0)
		// Another seed is other pods on the same machines.
		if l := second.Labels(i, 0); len(replaced) < b.replaced && !labels.Equal(l, created[i]) {
			replaced = append(replaced, l)
		}
	}
	w := creator{db: db, postgres: Tree{server.PID()}, at: start}
	rows := [][]string{{"", "series", "took", "series/s", "CPU of promkeep", "of PostgreSQL", "µs of CPU per series"}}
	if rows, err = w.create(ctx, rows, "created", created); err != nil {
		return err
	}
	perSeries, err := b.sizes(ctx, server)
	if err != nil {
		return err
	}
	if rows, err = w.create(ctx, rows, "replaced by a rollout", replaced); err != nil {
		return err
	}
	// All of them end.
	now.Add(24 * time.Hour.Milliseconds())
	for range 3 {
		if err := db.Flush(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := db.Maintain(ctx); err != nil {
		return err
	}
	note("maintenance, with the end of all series, took %s", brief(time.Since(began)))
	queries, err := w.ask(ctx, start-1000, start+1000)
	if err != nil {
		return err
	}
	table(os.Stdout, rows)
	fmt.Println()
	table(os.Stdout, perSeries)
	fmt.Println()
	table(os.Stdout, queries)
	return nil
}

func (b *catalogueBench) sizes(ctx context.Context, server *postgres.Server) ([][]string, error) {
	conn, err := pgx.Connect(ctx, server.SuperURI())
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, catalogueSizes)
	if err != nil {
		return nil, err
	}
	out := [][]string{{"", "on disk", "bytes per series"}}
	add := func(name string, bytes int64) {
		out = append(out, []string{name, bytesText(bytes), fmt.Sprintf("%.1f", float64(bytes)/float64(b.series))})
	}
	var (
		name       string
		bytes, sum int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&name, &bytes}, func() error { add(name, bytes); sum += bytes; return nil }); err != nil {
		return nil, err
	}
	add("in all", sum)
	return out, nil
}

// creator writes a sample of each of many series, in requests of 2,000 from four senders.
type creator struct {
	db       *storage.DB
	postgres Tree
	at       int64 // ms
	next     uint64
}

func (w *creator) create(ctx context.Context, rows [][]string, what string, all []labels.Labels) ([][]string, error) {
	const request, senders = 2_000, 4
	cpu, err := w.postgres.CPU()
	if err != nil {
		return nil, err
	}
	own, began := ownCPU(), time.Now()
	errs := make([]error, senders)
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			for from := s * request; from < len(all) && errs[s] == nil; from += senders * request {
				errs[s] = w.write(ctx, all[from:min(from+request, len(all))], w.next+uint64(from))
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	w.next += uint64(len(all))
	own = ownCPU() - own
	after, err := w.postgres.CPU()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	n := max(len(all), 1)
	return append(rows, []string{what, count(len(all)), brief(took), count(int(float64(n) / took.Seconds())), brief(own), brief(after - cpu),
		fmt.Sprintf("%.1f", float64((own+after-cpu).Microseconds())/float64(n))}), nil
}

func (w *creator) write(ctx context.Context, series []labels.Labels, first uint64) error {
	b, err := w.db.NewBatch(ctx, "")
	if err != nil {
		return err
	}
	defer b.Release()
	for i, l := range series {
		b.New(storage.Key{first + uint64(i), 1}, l)
		b.Float(w.at, 0, 1)
	}
	return b.Commit(ctx)
}

// ask asks for labels of a range that begins before memory, twice: when nothing is remembered, and again.
func (w *creator) ask(ctx context.Context, mint, maxt int64) ([][]string, error) {
	out := [][]string{{"", "found", "first", "again"}}
	regexp := labels.MustNewMatcher(labels.MatchRegexp, "namespace", "team-1.*")
	rss := labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "container_memory_rss")
	for _, q := range []struct {
		name, label string
		ms          []*labels.Matcher
	}{
		{"label_values(job)", "job", nil},
		{"label_values(pod)", "pod", nil},
		{`label_values({namespace=~"team-1.*"}, pod)`, "pod", []*labels.Matcher{regexp}},
		{"label_values(container_memory_rss, pod)", "pod", []*labels.Matcher{rss}},
		{"label_values(__name__)", model.MetricNameLabel, nil},
		{"label_names()", "", nil},
	} {
		row := []string{q.name, "", "", ""}
		for again := range 2 {
			querier, err := w.db.Querier(mint, maxt)
			if err != nil {
				return nil, err
			}
			began := time.Now()
			var found []string
			if q.label != "" {
				found, _, err = querier.LabelValues(ctx, q.label, nil, q.ms...)
			} else {
				found, _, err = querier.LabelNames(ctx, nil, q.ms...)
			}
			took := time.Since(began)
			if err := errors.Join(err, querier.Close()); err != nil {
				return nil, err
			}
			row[1], row[2+again] = count(len(found)), took.Round(10*time.Microsecond).String()
		}
		out = append(out, row)
	}
	return out, nil
}
