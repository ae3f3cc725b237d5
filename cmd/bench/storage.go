package bench

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/postgres"
)

// storageBench is the command "bench storage": how many bytes the same samples take, and how fast they are read again.
type storageBench struct {
	victoria      string
	dir           string
	series, hours int
	scan          int
}

func (b *storageBench) register(parent *kingpin.CmdClause) string {
	cmd := parent.Command("storage", "Keep the same samples in promkeep, with and without TimescaleDB, and in VictoriaMetrics, and compare what they take on disk.")
	cmd.Flag("victoria-metrics", "Program to compare with; left out if it is not there.").Default("victoria-metrics").StringVar(&b.victoria)
	cmd.Flag("dir", "Where data is kept meanwhile; a temporary directory if not given. PostgreSQL must be able to reach it.").StringVar(&b.dir)
	cmd.Flag("series", "Series.").Default("30000").IntVar(&b.series)
	cmd.Flag("hours", "Hours of 15-second samples, at most 24.").Default("6").IntVar(&b.hours)
	cmd.Flag("scan", "Series that are read again, about.").Default("1000").IntVar(&b.scan)
	return cmd.FullCommand()
}

// stored is what a store made of the samples.
type stored struct {
	name                     string
	rows, indexes, catalogue int64 // bytes
	total                    int64 // bytes, of all three
	log                      int64 // bytes, not in the total
	database                 int64 // bytes, with the log and PostgreSQL's own catalogue
	packed                   int64 // rows
	wrote                    time.Duration
	cold, opened, warm       scanned // PostgreSQL just started on evicted files, promkeep opened anew on that server, both having read it before
}

// scanned is how long it took to read samples.
type scanned struct {
	samples   int
	took, cpu time.Duration
	own       time.Duration // of cpu, promkeep's, without PostgreSQL
}

func (b *storageBench) run(ctx context.Context, _ *slog.Logger) error {
	if b.series < 1 || b.hours < 1 || b.hours > 24 || b.scan < 1 {
		return errors.New("--series and --scan must be above zero, --hours from 1 to 24")
	}
	base, remove, err := workDir(b.dir)
	if err != nil {
		return err
	}
	defer remove()
	const day = 24 * 3600_000
	// A day that is over. Nothing lies at its edges, so that no scrape that was a little late crosses them.
	load := Load{Series: b.series, Steps: b.hours*240 - 2, Interval: 15 * time.Second, Seed: 1,
		Start: time.Now().UnixMilli()/day*day - day + 15_000}
	note("%d cores, load before: %s", runtime.NumCPU(), machineLoad())
	note("preparing %s samples of %s series", count(load.Samples()), count(load.Series))
	s := &store{load: load, values: load.Values(), clock: load.Clock(), dir: base, scan: b.scan}
	var results []stored
	for _, mode := range []postgres.TimescaleDB{postgres.TimescaleOff, postgres.TimescaleAuto} {
		r, err := s.promkeep(ctx, mode)
		if err != nil {
			return err
		}
		if r.name != "" {
			results = append(results, r)
		}
	}
	if path, err := exec.LookPath(b.victoria); err == nil {
		r, err := s.victoriaMetrics(ctx, path)
		if err != nil {
			return err
		}
		results = append(results, r)
	} else {
		note("no VictoriaMetrics to compare with: %v", err)
	}
	fmt.Printf("\n%s series, %d hours of 15-second samples: %s samples\n\n", count(load.Series), b.hours, count(load.Samples()))
	printStored(results, load)
	return nil
}

// store writes a load to one store after another.
type store struct {
	load   Load
	values *Values
	clock  *Clock
	dir    string
	scan   int
}

//go:embed sizes.sql
var sizes string

// promkeep writes the load through package storage, on a server of its own. There is no result if the server lacks
// TimescaleDB.
func (s *store) promkeep(ctx context.Context, mode postgres.TimescaleDB) (out stored, err error) {
	dir := filepath.Join(s.dir, "promkeep-"+string(mode))
	defer os.RemoveAll(dir)
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, TimescaleDB: mode})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stopServer(server)) }()
	if mode != postgres.TimescaleOff && !server.HasTimescaleDB() {
		note("the server has no TimescaleDB")
		return out, nil
	}
	name := "promkeep, PostgreSQL " + fmt.Sprint(server.Installation().Major)
	if server.HasTimescaleDB() {
		name += " with TimescaleDB"
	}
	note("%s: writing", name)
	began := time.Now()
	db, now, err := s.open(ctx, server, mode)
	if err != nil {
		return out, err
	}
	err = s.fill(ctx, db, now)
	out.wrote = time.Since(began)
	if err == nil {
		err = s.settle(ctx, server, db, now)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return out, err
	}
	if err := s.measure(ctx, server, &out); err != nil {
		return out, err
	}
	note("%s: reading", name)
	if err := stopServer(server); err != nil {
		return out, err
	}
	// A server without anything in its memory, on files that the kernel has forgotten.
	cold := dropCaches(dir)
	if server, err = postgres.Start(ctx, postgres.Options{DataDir: dir, TimescaleDB: mode}); err != nil {
		return out, err
	}
	if db, err = s.reopen(ctx, server, mode); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if out.cold, err = s.read(ctx, db, Tree{server.PID()}); err != nil {
		return out, err
	}
	if cold != nil {
		note("the files could not be evicted from the kernel's cache: %v", cold)
	}
	var opened, warm []scanned
	for range repeats {
		if err = db.Close(); err != nil {
			return out, err
		}
		anew, err := s.reopen(ctx, server, mode)
		if err != nil {
			return out, err
		}
		db = anew
		o, err := s.read(ctx, db, Tree{server.PID()})
		if err != nil {
			return out, err
		}
		w, err := s.read(ctx, db, Tree{server.PID()})
		if err != nil {
			return out, err
		}
		opened, warm = append(opened, o), append(warm, w)
	}
	out.opened, out.warm = median(opened), median(warm)
	out.name = name
	return out, nil
}

// repeats is how many times that is read which can be read again.
const repeats = 7

// median is the one in the middle by CPU time.
func median(all []scanned) scanned {
	slices.SortFunc(all, func(a, b scanned) int { return cmp.Compare(a.cpu, b.cpu) })
	return all[len(all)/2]
}

// open opens the storage with a clock that the caller sets, in ms, and that begins with the load.
func (s *store) open(ctx context.Context, server *postgres.Server, mode postgres.TimescaleDB) (*storage.DB, *atomic.Int64, error) {
	return s.openAt(ctx, server, mode, s.load.Start)
}

// reopen opens the storage when the day of the load is over, so that none of its rows are among those of the last hours, which are loaded into memory.
func (s *store) reopen(ctx context.Context, server *postgres.Server, mode postgres.TimescaleDB) (*storage.DB, error) {
	const day = 24 * 3600_000
	db, _, err := s.openAt(ctx, server, mode, s.load.Start/day*day+2*day)
	return db, err
}

func (s *store) openAt(ctx context.Context, server *postgres.Server, mode postgres.TimescaleDB, ms int64) (*storage.DB, *atomic.Int64, error) {
	now := &atomic.Int64{}
	now.Store(ms)
	if server.HasTimescaleDB() {
		mode = postgres.TimescaleOn
	}
	db, err := storage.Open(ctx, storage.Config{
		URI: server.URI(), TimescaleDB: schema.TimescaleDBMode(mode), NoMaintenance: true,
		Now: func() time.Time { return time.UnixMilli(now.Load()) },
	})
	return db, now, err
}

// fill writes all samples in order of time, in requests of 2,000, flushing as often as in real time.
func (s *store) fill(ctx context.Context, db *storage.DB, now *atomic.Int64) error {
	const request = 2_000
	all := make([]labels.Labels, s.load.Series)
	for i := range all {
		all[i] = s.load.Labels(i, 0)
	}
	every := int(markEvery / s.load.Interval)
	workers := runtime.GOMAXPROCS(0)
	for from := 0; from < s.load.Steps; from += every {
		to := min(from+every, s.load.Steps)
		errs := make([]error, workers)
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				for step := from; step < to && errs[w] == nil; step++ {
					for first := w * request; first < len(all) && errs[w] == nil; first += workers * request {
						errs[w] = s.write(ctx, db, all, first, min(first+request, len(all)), step)
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		now.Store(s.load.Start + int64(to)*s.load.Interval.Milliseconds())
		if err := db.Flush(ctx); err != nil {
			return err
		}
		if err := db.Maintain(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) write(ctx context.Context, db *storage.DB, all []labels.Labels, from, to, step int) error {
	b, err := db.NewBatch(ctx, "")
	if err != nil {
		return err
	}
	defer b.Release()
	for i := from; i < to; i++ {
		if key := (storage.Key{uint64(i), mix(s.load.Seed, uint64(i))}); !b.Known(key) {
			b.New(key, all[i])
		}
		b.Float(s.clock.At(s.load.target(i), step), 0, s.values.At(i, step))
	}
	return b.Commit(ctx)
}

func (s *store) settle(ctx context.Context, server *postgres.Server, db *storage.DB, now *atomic.Int64) error {
	conn, err := pgx.Connect(ctx, server.SuperURI())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return settle(ctx, conn, s.load.End(), func(ms int64) error {
		now.Store(ms)
		return db.Maintain(ctx)
	})
}

func (s *store) measure(ctx context.Context, server *postgres.Server, out *stored) error {
	conn, err := pgx.Connect(ctx, server.SuperURI())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var samples int64
	if err := conn.QueryRow(ctx, sizes).Scan(&out.rows, &out.indexes, &out.catalogue, &out.log, &out.database, &samples, &out.packed); err != nil {
		return err
	}
	if samples != int64(s.load.Samples()) {
		return fmt.Errorf("%s samples are in the long-term store, %s were written", count(int(samples)), count(s.load.Samples()))
	}
	out.total = out.rows + out.indexes + out.catalogue
	return nil
}

// read reads all samples of some metrics that have about as many series as wanted.
func (s *store) read(ctx context.Context, db *storage.DB, tree Tree) (out scanned, err error) {
	series := map[string]int{}
	for i := range s.load.Series {
		series[node()[i%len(node())].family.name]++
	}
	var names []string
	want := 0
	all := s.load.Names()
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(fmt.Sprint(hash(a)), fmt.Sprint(hash(b))) })
	for _, name := range all {
		if want >= s.scan {
			break
		}
		names, want = append(names, name), want+series[name]
	}
	q, err := db.Querier(s.load.Start-1000, s.load.End())
	if err != nil {
		return out, err
	}
	defer q.Close()
	cpu, err := tree.onCPU()
	if err != nil {
		return out, err
	}
	own, began := ownCPU(), time.Now()
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", strings.Join(names, "|")))
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			out.samples++
		}
		if err := it.Err(); err != nil {
			return out, err
		}
	}
	out.took = time.Since(began)
	out.own = ownCPU() - own // before /proc is read, which takes as long as half of a scan
	now, cpuErr := tree.onCPU()
	out.cpu = out.own + now - cpu
	if err := errors.Join(set.Err(), cpuErr); err != nil {
		return out, err
	}
	if out.samples != want*s.load.Steps {
		return out, fmt.Errorf("%s samples were read, want %s", count(out.samples), count(want*s.load.Steps))
	}
	return out, nil
}

func (s *store) victoriaMetrics(ctx context.Context, exe string) (out stored, err error) {
	p := victoriaMetricsPeer(exe)
	note("%s: writing", p.name)
	r, err := p.start(ctx, s.dir)
	if err != nil {
		return out, err
	}
	defer r.stop()
	sender := &Sender{URL: r.url + r.writePath, Load: s.load, Protocol: V1, Batch: 2000, Concurrency: runtime.GOMAXPROCS(0), values: s.values}
	if err := sender.Prepare(); err != nil {
		return out, err
	}
	report, err := sender.Run(ctx)
	if err != nil {
		return out, err
	}
	if report.Rejected > 0 {
		return out, fmt.Errorf("%s rejected %d samples: %s", p.name, report.Rejected, report.Rejection)
	}
	out.name, out.wrote = p.name, report.Took
	for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
		if _, err := r.get(ctx, path); err != nil {
			return out, err
		}
		if err := r.quiet(ctx); err != nil {
			return out, err
		}
		if err := r.victoriaMerged(ctx); err != nil {
			return out, err
		}
	}
	if err := r.verify(ctx, s.load); err != nil {
		return out, err
	}
	// What is merged is deleted when nobody reads it any more.
	if err := r.quiet(ctx); err != nil {
		return out, err
	}
	if out.rows, _, err = diskUsage(filepath.Join(r.dir, "data")); err != nil {
		return out, err
	}
	if out.catalogue, _, err = diskUsage(filepath.Join(r.dir, "indexdb")); err != nil {
		return out, err
	}
	out.total = out.rows + out.catalogue
	return out, nil
}

func printStored(results []stored, load Load) {
	n := float64(load.Samples())
	each := func(bytes int64) string { return fmt.Sprintf("%.3f", float64(bytes)/n) }
	rate := func(s scanned, d time.Duration) string {
		if s.samples == 0 || d <= 0 {
			return "-"
		}
		return fmt.Sprintf("%.0f M", float64(s.samples)/d.Seconds()/1e6)
	}
	rows := [][]string{{"", "on disk", "B/sample", "samples", "their index", "catalogue", "packed rows", "written in", "cold read/s", "per CPU s", "opened read/s", "per CPU s", "warm read/s", "per CPU s"}}
	for _, r := range results {
		row := []string{r.name, bytesText(r.total), each(r.total), each(r.rows), each(r.indexes), each(r.catalogue), count(int(r.packed)), brief(r.wrote),
			rate(r.cold, r.cold.took), rate(r.cold, r.cold.cpu), rate(r.opened, r.opened.took), rate(r.opened, r.opened.cpu), rate(r.warm, r.warm.took), rate(r.warm, r.warm.cpu)}
		rows = append(rows, row)
	}
	table(os.Stdout, rows)
	last := results[len(results)-1]
	for _, r := range results[:len(results)-1] {
		fmt.Printf("%s / %s: %.3f\n", r.name, last.name, float64(r.total)/float64(last.total))
	}
	ms := func(s scanned) string {
		return fmt.Sprintf("%.1f ms of promkeep's CPU and %.1f of PostgreSQL's", s.own.Seconds()*1e3, (s.cpu-s.own).Seconds()*1e3)
	}
	for _, r := range results {
		if r.cold.samples > 0 {
			fmt.Printf("%s: reading %s samples took %s cold, %s with promkeep just opened, %s warm\n",
				r.name, count(r.cold.samples), ms(r.cold), ms(r.opened), ms(r.warm))
		}
	}
	for _, r := range results {
		if r.database > 0 {
			fmt.Printf("%s: the whole database, with the log (%s) and PostgreSQL's own catalogue, is %s\n", r.name, bytesText(r.log), bytesText(r.database))
		}
	}
}

func stopServer(s *postgres.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.Stop(ctx)
}
