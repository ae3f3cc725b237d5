package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// queryBench is the command "bench query": dashboards' queries of the same data in promkeep and other stores, in turn.
type queryBench struct {
	victoria, prometheus string
	other                string
	timescale            bool
	dir                  string
	scale                float64
	runs                 int
	ranges               []string
	only                 string
	gzip, pause          bool
}

func (q *queryBench) register(parent *kingpin.CmdClause) string {
	cmd := parent.Command("query", "Ask the same dashboard queries of promkeep, VictoriaMetrics and Prometheus in turn, and compare latencies and answers.")
	cmd.Flag("victoria-metrics", "Program to compare with; left out if it is not there.").Default("victoria-metrics").StringVar(&q.victoria)
	cmd.Flag("prometheus", "Program that the answers are held against.").Default("prometheus").StringVar(&q.prometheus)
	cmd.Flag("other-promkeep", "Another promkeep to ask too, such as one built before a change.").StringVar(&q.other)
	cmd.Flag("timescaledb", "Run a promkeep on TimescaleDB too; the PostgreSQL server must have it.").BoolVar(&q.timescale)
	cmd.Flag("dir", "Where data is kept meanwhile; a temporary directory if not given. PostgreSQL must be able to reach it.").StringVar(&q.dir)
	cmd.Flag("scale", "Share of the full number of series.").Default("1").Float64Var(&q.scale)
	cmd.Flag("runs", "How often each query is asked of each store, after once to warm up. The median counts.").Default("7").IntVar(&q.runs)
	cmd.Flag("range", "Which of the ranges; all if not given. May be repeated.").EnumsVar(&q.ranges, "hour", "day", "week")
	cmd.Flag("only", "Only queries whose names contain this.").StringVar(&q.only)
	cmd.Flag("gzip", "Ask for compressed answers.").BoolVar(&q.gzip)
	cmd.Flag("pause", "Wait for Enter before the stores are stopped, and say where they listen.").BoolVar(&q.pause)
	return cmd.FullCommand()
}

// queryRange is what is asked for, over which data.
type queryRange struct {
	name, title string
	series      int
	span, step  time.Duration
	// settled tells that promkeep has merged all rows into those of days, and holds none of the samples in memory; otherwise
	// it is as it is while it goes on receiving samples.
	settled bool
}

// queryRanges are the last hour of the head, a day and a week of the long-term store. The series are those of whole machines.
var queryRanges = []queryRange{
	{"hour", "the last hour", 9_000, time.Hour, 15 * time.Second, false},
	{"day", "24 hours", 2_700, 24 * time.Hour, 2 * time.Minute, true},
	{"week", "7 days", 900, 7 * 24 * time.Hour, 5 * time.Minute, true},
}

// reachBack is how much older than the range data must be for the queries' own ranges.
const reachBack = time.Hour + 5*time.Minute

// Relative distances of values that count as the same. The engine adds up in the order in which the store returns series,
// which PromQL leaves open, and of which the last places depend: a difference beyond those is an error of promkeep.
const (
	lastPlaces        = 1e-12
	victoriaTolerance = 1e-9
)

// contender is a store that is being asked.
type contender struct {
	*running
	tolerance float64 // for its answers
	results   []queried
	different int
	inexact   int           // answers that differ in the last places
	cpu       time.Duration // of all runs
}

// queried is what came of a query.
type queried struct {
	took  time.Duration // median
	least time.Duration
	equal string // "=", "≈" in all but the last places, "≠"
}

func (q *queryBench) run(ctx context.Context, _ *slog.Logger) error {
	if q.scale <= 0 || q.runs < 1 {
		return errors.New("--scale and --runs must be above zero")
	}
	queries := slices.DeleteFunc(slices.Clone(dashboardQueries), func(d dashboardQuery) bool { return !strings.Contains(d.name, q.only) })
	if len(queries) == 0 {
		return fmt.Errorf("--only: no query of that name")
	}
	peers, err := q.peers()
	if err != nil {
		return err
	}
	base, remove, err := workDir(q.dir)
	if err != nil {
		return err
	}
	defer remove()
	note("%d cores, load before: %s", runtime.NumCPU(), machineLoad())
	var failed error
	for _, r := range queryRanges {
		if len(q.ranges) > 0 && !slices.Contains(q.ranges, r.name) {
			continue
		}
		if err := q.measure(ctx, peers, base, r, queries); errors.Is(err, errDifferent) {
			failed = errors.Join(failed, err)
		} else if err != nil {
			return err
		}
	}
	return failed
}

var errDifferent = errors.New("promkeep's answers are not Prometheus'")

// peers returns Prometheus and those that are compared with it.
func (q *queryBench) peers() ([]peer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath(q.prometheus)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus, whose answers are the right ones: %w", err)
	}
	all := []peer{prometheusPeer(path)}
	note("Prometheus: %s", version(path, "--version"))
	if path, err := exec.LookPath(q.victoria); err == nil {
		all = append(all, victoriaMetricsPeer(path))
		note("VictoriaMetrics: %s", version(path, "-version"))
	} else {
		note("no VictoriaMetrics to compare with: %v", err)
	}
	all = append(all, promkeepPeer(exe, "off"))
	if q.timescale {
		p := promkeepPeer(exe, "on")
		p.name = "promkeep-timescaledb"
		all = append(all, p)
	}
	if q.other != "" {
		path, err := filepath.Abs(q.other)
		if err != nil {
			return nil, err
		}
		p := promkeepPeer(path, "off")
		p.name = "promkeep-other"
		all = append(all, p)
	}
	return all, nil
}

// load returns the samples for a range, of the metrics that are asked for.
func (q *queryBench) load(r queryRange) (Load, error) {
	load := Load{Series: max(1, int(float64(r.series)*q.scale)), Interval: 15 * time.Second, Seed: 3}
	all := load
	all.Series = len(node())
	names, err := metricsOf(dashboardQueries, all.Names())
	if err != nil {
		return load, err
	}
	load.only(names)
	// The middle of a day that is over; or a little after now, since promkeep has in memory what is younger than two hours when it
	// is started.
	end := time.Now().UTC().Truncate(24 * time.Hour).Add(-12*time.Hour - 30*time.Minute)
	if !r.settled {
		end = time.Now().UTC().Truncate(time.Minute).Add(10 * time.Minute)
	}
	load.Steps = int((r.span + reachBack) / load.Interval)
	load.Start = end.UnixMilli() - int64(load.Steps)*load.Interval.Milliseconds()
	return load, nil
}

func (q *queryBench) measure(ctx context.Context, peers []peer, base string, r queryRange, queries []dashboardQuery) error {
	load, err := q.load(r)
	if err != nil {
		return err
	}
	note("%s: preparing %s samples of %s series", r.title, count(load.Samples()), count(load.Series))
	values := load.Values()
	makePlausible(load, values)
	var all []*contender
	for _, p := range peers {
		c, err := q.fill(ctx, p, base, load, values, r.settled)
		if c != nil {
			defer c.stop()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		if err := c.quiet(ctx); err != nil {
			return err
		}
	}
	note("%s: asking %d queries, load %s", r.title, len(queries), machineLoad())
	end := load.Start + int64(load.Steps)*load.Interval.Milliseconds()
	var different []error
	for _, d := range queries {
		if err := q.ask(ctx, all, d, end, r); errors.Is(err, errDifferent) {
			different = append(different, err)
		} else if err != nil {
			return err
		}
	}
	fmt.Printf("\n%s at steps of %s, %s series, %s samples; %d runs each, load %s\n\n", r.title, brief(r.step), count(load.Series), count(load.Samples()), q.runs, machineLoad())
	printQueries(all, queries)
	if q.pause {
		for _, c := range all {
			note("%s: %s, process %d", c.name, c.url, c.cmd.Process.Pid)
		}
		entered := make(chan struct{})
		go func() {
			_, _ = os.Stdin.Read(make([]byte, 1))
			close(entered)
		}()
		select {
		case <-entered:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.Join(different...)
}

// fill starts a store, sends it all samples in order of time, and brings them to where they are to be read.
func (q *queryBench) fill(ctx context.Context, p peer, base string, load Load, values *Values, settled bool) (*contender, error) {
	note("%s: sending", p.name)
	r, err := p.start(ctx, base)
	if err != nil {
		return nil, err
	}
	c := &contender{running: r}
	switch {
	case strings.HasPrefix(p.name, "promkeep"):
		c.tolerance = lastPlaces
	case p.name != "Prometheus":
		c.tolerance = victoriaTolerance
	}
	s := &Sender{URL: r.url + r.writePath, Load: load, Protocol: V1, Batch: 2000, Concurrency: runtime.GOMAXPROCS(0), Every: int(markEvery / load.Interval), values: values}
	if p.mark != nil {
		s.Mark = func(ctx context.Context, step int) error {
			return p.mark(ctx, r, load.Start+int64(step)*load.Interval.Milliseconds())
		}
		if err := r.clock(ctx, load.Start); err != nil {
			return c, err
		}
	}
	if err := s.Prepare(); err != nil {
		return c, err
	}
	hide := s.progress()
	report, err := s.Run(ctx)
	hide()
	if err != nil {
		return c, fmt.Errorf("%w\n%s", err, r.log)
	}
	if report.Rejected > 0 {
		return c, fmt.Errorf("%s samples were rejected: %s", count(int(report.Rejected)), report.Rejection)
	}
	if settled || p.mark == nil {
		if err := p.finish(ctx, r, load.End()); err != nil {
			return c, err
		}
	}
	switch {
	case p.mark == nil:
	case settled: // hours after it was started: it has nothing left in memory but the series
		if err := r.clock(ctx, time.Now().Add(4*time.Hour).UnixMilli()); err != nil {
			return c, err
		}
		if err := r.post(ctx, "/debug/maintain"); err != nil {
			return c, err
		}
	default: // the samples since the last flush stay where they are
		if err := r.clock(ctx, load.End()); err != nil {
			return c, err
		}
	}
	return c, r.verify(ctx, load)
}

// ask asks a query of all stores, the first of which is right.
func (q *queryBench) ask(ctx context.Context, all []*contender, d dashboardQuery, end int64, r queryRange) error {
	form := url.Values{
		"query": {d.expr}, "start": {seconds(end - r.span.Milliseconds())}, "end": {seconds(end)}, "step": {strconv.FormatFloat(r.step.Seconds(), 'f', -1, 64)},
		// VictoriaMetrics would otherwise answer the second time from a cache of results, and move the range to multiples of the step.
		"nocache": {"1"},
	}.Encode()
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{DisableCompression: !q.gzip}}
	defer client.CloseIdleConnections()
	var (
		right  answer
		failed error
	)
	for i, c := range all {
		raw, _, err := c.rangeQuery(ctx, client, form)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, d.name, err)
		}
		got, err := parseAnswer(raw)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, d.name, err)
		}
		result := queried{equal: "="}
		if i == 0 {
			if right = got; len(got.series) == 0 {
				return fmt.Errorf("%s has no answer to %s: %s", c.name, d.name, d.expr)
			}
		} else if exact, _ := right.difference(got, 0); exact != "" || c.exact() && !slices.Equal(right.notes, got.notes) {
			result.equal = "≈"
			text, apart := right.difference(got, c.tolerance)
			if text == "" && c.exact() && !slices.Equal(right.notes, got.notes) {
				text = fmt.Sprintf("warnings and infos %q, not %q", got.notes, right.notes)
			}
			if c.inexact++; text == "" && c.exact() {
				note("%s: %s: up to %.1g of the value apart: %s", c.name, d.name, apart, exact)
			}
			if text != "" {
				c.inexact--
				c.different++
				result.equal = "≠"
			}
			if text != "" && c.exact() {
				note("%s: %s: %s\n  %s", c.name, d.name, d.expr, text)
				failed = fmt.Errorf("%w: %s, %s: %s", errDifferent, r.title, d.name, text)
			}
		}
		c.results = append(c.results, result)
	}
	took := make([][]time.Duration, len(all))
	for run := range q.runs {
		for i := range all {
			i = (i + run) % len(all)
			c := all[i]
			before, err := c.tree().CPU()
			if err != nil {
				return err
			}
			_, t, err := c.rangeQuery(ctx, client, form)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", c.name, d.name, err)
			}
			after, err := c.tree().CPU()
			if err != nil {
				return err
			}
			c.cpu += after - before
			took[i] = append(took[i], t)
		}
	}
	for i, c := range all {
		slices.Sort(took[i])
		last := &c.results[len(c.results)-1]
		last.took, last.least = took[i][len(took[i])/2], took[i][0]
	}
	return failed
}

// exact tells whether the answers must be Prometheus'.
func (c *contender) exact() bool { return c.tolerance == lastPlaces }

func seconds(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }

// rangeQuery sends a range query as Grafana does, and returns the answer and when all of it was there.
func (r *running) rangeQuery(ctx context.Context, client *http.Client, form string) ([]byte, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+r.queryPath+"_range", strings.NewReader(form))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body[:min(len(body), 500)]))
	}
	return body, took, nil
}

// printQueries prints the latencies, and their ratios to the first store's.
func printQueries(all []*contender, queries []dashboardQuery) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Nanoseconds())/1e6) }
	ratio := func(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(max(b, 1))) }
	head := []string{"ms"}
	for i, c := range all {
		head = append(head, c.name)
		if i > 0 {
			head = append(head, "ratio", "answer")
		}
	}
	rows := [][]string{head}
	sums, least := make([]time.Duration, len(all)), make([]time.Duration, len(all))
	worst := make([]int, len(all))
	slower := func(c *contender, i int) float64 { return float64(c.results[i].took) / float64(all[0].results[i].took) }
	for i, d := range queries {
		row := []string{d.name}
		for j, c := range all {
			row = append(row, ms(c.results[i].took))
			if j > 0 {
				row = append(row, ratio(c.results[i].took, all[0].results[i].took), c.results[i].equal)
			}
			sums[j] += c.results[i].took
			least[j] += c.results[i].least
			if slower(c, i) > slower(c, worst[j]) {
				worst[j] = i
			}
		}
		rows = append(rows, row)
	}
	total := func(name string, of func(j int) time.Duration) {
		row := []string{name}
		for j := range all {
			row = append(row, ms(of(j)))
			if j > 0 {
				row = append(row, ratio(of(j), of(0)), "")
			}
		}
		rows = append(rows, row)
	}
	total("sum", func(j int) time.Duration { return sums[j] })
	total("sum of the least, not the median", func(j int) time.Duration { return least[j] })
	total("CPU of all runs", func(j int) time.Duration { return all[j].cpu })
	table(os.Stdout, rows)
	fmt.Println()
	for j, c := range all[1:] {
		w := worst[j+1]
		line := fmt.Sprintf("%s / %s: sum of the latencies %s, CPU %s, worst single query %.2f (%s); %d of %d answers differ", c.name, all[0].name,
			ratio(sums[j+1], sums[0]), ratio(c.cpu, all[0].cpu), slower(c, w), queries[w].name, c.different, len(queries))
		if c.inexact > 0 && c.exact() {
			line += fmt.Sprintf(", %d more in the last places only", c.inexact)
		}
		fmt.Println(line)
	}
}
