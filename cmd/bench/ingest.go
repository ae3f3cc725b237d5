package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// ingest is the command "bench ingest": the same loads into promkeep and other stores, one after another.
type ingest struct {
	victoria, prometheus string
	timescale            string
	dir                  string
	scale                float64
	concurrency          int
	protocol             string
	only                 []string
	noLatency            bool
	load                 string
	others               []string
	rounds               int
}

func (g *ingest) register(parent *kingpin.CmdClause) string {
	cmd := parent.Command("ingest", "Send the same loads to promkeep, VictoriaMetrics and Prometheus, and compare CPU, memory, disk and latency.")
	cmd.Flag("victoria-metrics", "Program to compare with; left out if it is not there.").Default("victoria-metrics").StringVar(&g.victoria)
	cmd.Flag("prometheus", "Program to compare with; left out if it is not there.").Default("prometheus").StringVar(&g.prometheus)
	cmd.Flag("timescaledb", "As promkeep's --db.timescaledb.").Default("off").EnumVar(&g.timescale, "auto", "on", "off")
	cmd.Flag("dir", "Where data is kept meanwhile; a temporary directory if not given. PostgreSQL must be able to reach it.").StringVar(&g.dir)
	cmd.Flag("scale", "Share of the full number of series.").Default("1").Float64Var(&g.scale)
	cmd.Flag("concurrency", "Requests at once.").Default("8").IntVar(&g.concurrency)
	cmd.Flag("protocol", "Version of remote write. VictoriaMetrics before 1.116 knows 1.0 alone.").Default(string(V1)).EnumVar(&g.protocol, string(V1), string(V2))
	cmd.Flag("only", "Only the peer of this name. May be repeated.").StringsVar(&g.only)
	cmd.Flag("load", "Which of the loads: an hour of 31,000 series, five minutes of 1,000,000, or both.").Default("both").EnumVar(&g.load, "hour", "million", "both")
	cmd.Flag("promkeep", "Another build of promkeep to compare with. May be repeated.").StringsVar(&g.others)
	cmd.Flag("rounds", "How often all are measured, in turn; the median of CPU per sample is told at the end.").Default("1").IntVar(&g.rounds)
	cmd.Flag("no-latency", "Leave out the runs at half of the greatest rate.").BoolVar(&g.noLatency)
	return cmd.FullCommand()
}

// result is what one peer did with one load.
type result struct {
	peer    string
	report  Report
	sending time.Duration // CPU of the peer while it was sent to
	after   time.Duration // and until all was flushed and merged
	peak    Usage
	rest    int64 // bytes on disk
	log     int64
	half    Report // at half of the rate
}

func (g *ingest) peers() ([]peer, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := []peer{promkeepPeer(exe, g.timescale)}
	for _, path := range g.others {
		p := promkeepPeer(path, g.timescale)
		p.name = filepath.Base(path)
		all = append(all, p)
	}
	if path, err := exec.LookPath(g.victoria); err == nil {
		all = append(all, victoriaMetricsPeer(path))
		note("VictoriaMetrics: %s", version(path, "-version"))
	} else {
		note("no VictoriaMetrics to compare with: %v", err)
	}
	if path, err := exec.LookPath(g.prometheus); err == nil {
		all = append(all, prometheusPeer(path))
		note("Prometheus: %s", version(path, "--version"))
	} else {
		note("no Prometheus to compare with: %v", err)
	}
	if len(g.only) == 0 {
		return all, nil
	}
	var some []peer
	for _, p := range all {
		for _, name := range g.only {
			if strings.EqualFold(p.name, name) {
				some = append(some, p)
			}
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("--only: none of %v is here", g.only)
	}
	return some, nil
}

func (g *ingest) run(ctx context.Context, _ *slog.Logger) error {
	peers, err := g.peers()
	if err != nil {
		return err
	}
	base, remove, err := workDir(g.dir)
	if err != nil {
		return err
	}
	defer remove()

	const window = 2 * 3600_000
	begin := time.Now().UnixMilli()/window*window - window // a window that is over
	loads := []struct {
		name  string
		title string
		load  Load
		half  bool
	}{
		{"hour", "an hour of 15-second samples", Load{Series: max(1, int(31_000*g.scale)), Steps: 240, Interval: 15 * time.Second, Start: begin, Seed: 1}, !g.noLatency},
		{"million", "five minutes of 15-second samples", Load{Series: max(1, int(1_000_000*g.scale)), Steps: 20, Interval: 15 * time.Second, Start: begin, Seed: 2}, false},
	}
	note("%d cores, load before: %s", runtime.NumCPU(), machineLoad())
	for _, l := range loads {
		if g.load != "both" && g.load != l.name {
			continue
		}
		note("preparing %s series", count(l.load.Series))
		sender := &Sender{Load: l.load, Protocol: Protocol(g.protocol), Batch: 2000, Concurrency: g.concurrency, Every: int(markEvery / l.load.Interval), values: l.load.Values()}
		var rounds [][]result
		for range max(1, g.rounds) {
			var results []result
			for _, p := range peers {
				r, err := g.measure(ctx, p, base, sender)
				if err != nil {
					return err
				}
				if l.half {
					if r.half, err = g.atHalf(ctx, p, base, sender, r.report.Rate()/2); err != nil {
						return err
					}
				}
				results = append(results, r)
			}
			fmt.Printf("\n%s series, %s: %s samples\n\n", count(l.load.Series), l.title, count(l.load.Samples()))
			printIngest(results, l.load, l.half)
			rounds = append(rounds, results)
		}
		if len(rounds) > 1 {
			printMedians(rounds, l.load)
		}
	}
	return nil
}

// sender returns a copy of the sender for a peer.
func (g *ingest) sender(s *Sender, r *running) (*Sender, error) {
	out := &Sender{URL: r.url + r.writePath, Load: s.Load, Protocol: s.Protocol, Batch: s.Batch, Concurrency: s.Concurrency, Every: s.Every, values: s.values}
	if r.mark != nil {
		out.Mark = func(ctx context.Context, step int) error {
			return r.mark(ctx, r, out.Load.Start+int64(step)*out.Load.Interval.Milliseconds())
		}
	}
	return out, out.Prepare()
}

func (g *ingest) measure(ctx context.Context, p peer, base string, s *Sender) (res result, err error) {
	note("%s: sending", p.name)
	r, err := p.start(ctx, base)
	if err != nil {
		return res, err
	}
	defer r.stop()
	sender, err := g.sender(s, r)
	if err != nil {
		return res, err
	}
	if p.mark != nil {
		if err := r.clock(ctx, s.Load.Start); err != nil {
			return res, err
		}
	}
	res.peer = p.name
	tree := r.tree()
	before, err := tree.CPU()
	if err != nil {
		return res, err
	}
	stopWatch := tree.watch(time.Second)
	hide := sender.progress()
	res.report, err = sender.Run(ctx)
	hide()
	if err != nil {
		_, _ = stopWatch()
		return res, fmt.Errorf("%s: %w\n%s", p.name, err, r.log)
	}
	sent, err := tree.CPU()
	if err != nil {
		_, _ = stopWatch()
		return res, err
	}
	note("%s: %s samples/s; waiting until all is flushed and merged", p.name, count(int(res.report.Rate())))
	finishErr := p.finish(ctx, r, s.Load.End())
	peak, watchErr := stopWatch()
	merged, cpuErr := tree.CPU()
	if err := errors.Join(finishErr, watchErr, cpuErr); err != nil {
		return res, err
	}
	res.peak, res.sending, res.after = peak, sent-before, merged-sent
	if res.rest, res.log, err = diskUsage(r.dir, p.log...); err != nil {
		return res, err
	}
	note("%s: counting by query", p.name)
	if res.report.Rejected > 0 {
		return res, fmt.Errorf("%s rejected %d samples: %s", p.name, res.report.Rejected, res.report.Rejection)
	}
	return res, r.verify(ctx, s.Load)
}

// atHalf sends as many samples in a second as rate says, for a quarter of the data at most, to a peer of its own.
func (g *ingest) atHalf(ctx context.Context, p peer, base string, s *Sender, rate float64) (Report, error) {
	note("%s: latency at %s samples/s", p.name, count(int(rate)))
	r, err := p.start(ctx, base)
	if err != nil {
		return Report{}, err
	}
	defer r.stop()
	if p.mark != nil {
		if err := r.clock(ctx, s.Load.Start); err != nil {
			return Report{}, err
		}
	}
	sender, err := g.sender(s, r)
	if err != nil {
		return Report{}, err
	}
	sender.Speed = rate / float64(s.Load.Series) * s.Load.Interval.Seconds()
	return sender.Run(ctx)
}

func printIngest(results []result, load Load, half bool) {
	head := []string{"", "samples/s", "CPU µs/sample", "sending", "flush, merge", "p50", "p99", "memory", "of it files", "disk", "of it log", "generator µs"}
	if half {
		head = append(head, "half rate p50", "p99", "max")
	}
	rows := [][]string{head}
	for _, r := range results {
		n := int64(load.Samples())
		row := []string{r.peer, count(int(r.report.Rate())),
			fmt.Sprintf("%.3f", perSample(r.sending+r.after, n)), fmt.Sprintf("%.3f", perSample(r.sending, n)), fmt.Sprintf("%.3f", perSample(r.after, n)),
			brief(r.report.P50), brief(r.report.P99), bytesText(r.peak.Memory), bytesText(r.peak.Mapped), bytesText(r.rest + r.log), bytesText(r.log),
			fmt.Sprintf("%.3f", perSample(r.report.OwnCPU, n))}
		if half {
			row = append(row, brief(r.half.P50), brief(r.half.P99), brief(r.half.Max))
		}
		rows = append(rows, row)
	}
	table(os.Stdout, rows)
	for _, r := range results[1:] {
		first := results[0]
		fmt.Printf("%s / %s: CPU %.2f, samples/s %.2f, memory %.2f\n", first.peer, r.peer,
			float64(first.sending+first.after)/float64(r.sending+r.after), first.report.Rate()/r.report.Rate(), float64(first.peak.Memory)/float64(r.peak.Memory))
	}
}

// printMedians tells the medians of several rounds, and those of the ratios within each.
func printMedians(rounds [][]result, load Load) {
	median := func(of func(round []result) float64) float64 {
		var all []float64
		for _, round := range rounds {
			all = append(all, of(round))
		}
		slices.Sort(all)
		return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
	cpu := func(r result) float64 { return perSample(r.sending+r.after, int64(load.Samples())) }
	fmt.Printf("\nmedians of %d rounds\n", len(rounds))
	for i, r := range rounds[0] {
		fmt.Printf("%s: %.3f CPU µs/sample, %s samples/s; ", r.peer,
			median(func(round []result) float64 { return cpu(round[i]) }),
			count(int(median(func(round []result) float64 { return round[i].report.Rate() }))))
		fmt.Printf("CPU of %s / its: %.3f\n", rounds[0][0].peer, median(func(round []result) float64 { return cpu(round[0]) / cpu(round[i]) }))
	}
}

// workDir returns a directory that PostgreSQL can reach, and how to remove it.
func workDir(dir string) (string, func(), error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", nil, err
		}
		return abs, func() {}, os.MkdirAll(abs, 0o755)
	}
	dir, err := os.MkdirTemp("", "promkeep-bench-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, os.Chmod(dir, 0o755)
}

// machineLoad is what else runs here.
func machineLoad() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}
