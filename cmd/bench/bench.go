package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
)

// Bench is the command "bench" with its subcommands.
type Bench struct {
	commands map[string]func(context.Context, *slog.Logger) error
}

// New registers the command.
func New(a *kingpin.Application) *Bench {
	b := &Bench{commands: map[string]func(context.Context, *slog.Logger) error{}}
	cmd := a.Command("bench", "Measure remote-write endpoints, and promkeep beside other stores.")
	w, i, s, q, c := &write{}, &ingest{}, &storageBench{}, &queryBench{}, &catalogueBench{}
	b.commands[w.register(cmd)] = w.run
	b.commands[i.register(cmd)] = i.run
	b.commands[s.register(cmd)] = s.run
	b.commands[q.register(cmd)] = q.run
	b.commands[c.register(cmd)] = c.run
	return b
}

// Run carries out a command that was parsed; ok is false if it is none of this package.
func (b *Bench) Run(ctx context.Context, command string, logger *slog.Logger) (ok bool, err error) {
	run, ok := b.commands[command]
	if !ok {
		return false, nil
	}
	return true, run(ctx, logger)
}

// write is the command "bench write".
type write struct {
	url         string
	series      int
	churn       float64
	interval    model.Duration
	history     model.Duration
	start       string
	speed       float64
	concurrency int
	batch       int
	protocol    string
	tenants     int
	seed        uint64
	pids        []int
}

func (w *write) register(parent *kingpin.CmdClause) string {
	cmd := parent.Command("write", "Send a load to a remote-write endpoint, and say how it was taken.")
	cmd.Flag("url", "Remote-write endpoint.").Default("http://localhost:9201/api/v1/write").StringVar(&w.url)
	cmd.Flag("series", "Active series: those of node_exporter, cAdvisor, kube-state-metrics and services of as many machines as it takes.").Default("31000").IntVar(&w.series)
	cmd.Flag("churn", "Share of the pods that are replaced by others in an hour.").Default("0").Float64Var(&w.churn)
	cmd.Flag("interval", "Time between the samples of a series.").Default("15s").SetValue(&w.interval)
	cmd.Flag("history", "How much time the samples cover.").Default("1h").SetValue(&w.history)
	cmd.Flag("start", "Time of the first samples, in RFC 3339. By default the last are as of now, or, with --speed=1, the first.").StringVar(&w.start)
	cmd.Flag("speed", "Time covered in a second, in seconds: 1 is real time, 0 as fast as they are taken.").Default("0").Float64Var(&w.speed)
	cmd.Flag("concurrency", "Requests at once.").Default("4").IntVar(&w.concurrency)
	cmd.Flag("batch", "Samples of a request.").Default("2000").IntVar(&w.batch)
	cmd.Flag("protocol", "Version of remote write.").Default(string(V1)).EnumVar(&w.protocol, string(V1), string(V2))
	cmd.Flag("tenants", "Tenants that the series are divided among, named tenant-0 and so on in X-Scope-OrgID.").Default("1").IntVar(&w.tenants)
	cmd.Flag("seed", "Another seed is another load.").Default("1").Uint64Var(&w.seed)
	cmd.Flag("pid", "Report the CPU time and memory of this process and its descendants. May be repeated.").IntsVar(&w.pids)
	return cmd.FullCommand()
}

func (w *write) load() (Load, error) {
	load := Load{Series: w.series, Interval: time.Duration(w.interval), Churn: w.churn, Seed: w.seed}
	if w.series < 1 || w.concurrency < 1 || w.batch < 1 || w.interval <= 0 || w.history < w.interval || w.churn < 0 || w.speed < 0 {
		return load, errors.New("--series, --concurrency, --batch and --interval must be above zero, --history at least --interval, --churn and --speed not below zero")
	}
	load.Steps = int(time.Duration(w.history) / load.Interval)
	begin := time.Now()
	if w.speed != 1 {
		begin = begin.Add(-time.Duration(load.Steps+1) * load.Interval)
	} else {
		begin = begin.Add(-load.Interval)
	}
	if w.start != "" {
		var err error
		if begin, err = time.Parse(time.RFC3339, w.start); err != nil {
			return load, fmt.Errorf("--start: %w", err)
		}
	}
	load.Start = begin.UnixMilli()
	return load, nil
}

func (w *write) run(ctx context.Context, _ *slog.Logger) error {
	load, err := w.load()
	if err != nil {
		return err
	}
	s := &Sender{URL: w.url, Load: load, Protocol: Protocol(w.protocol), Batch: w.batch, Concurrency: w.concurrency, Tenants: w.tenants, Speed: w.speed}
	note("preparing %s samples of %s series", count(load.Samples()), count(load.Series))
	if err := s.Prepare(); err != nil {
		return err
	}
	tree := Tree(w.pids)
	var before time.Duration
	stop := func() (Usage, error) { return Usage{}, nil }
	if len(tree) > 0 {
		if before, err = tree.CPU(); err != nil {
			return err
		}
		stop = tree.watch(time.Second)
	}
	hide := s.progress()
	r, err := s.Run(ctx)
	hide()
	peak, watchErr := stop()
	if ctx.Err() != nil && r.Took > 0 {
		err = nil // stopped by the user, who may still want to see what was done
	}
	fmt.Printf("samples      %s sent, %s rejected\nrequests     %s retried\nrate         %s samples/s\nlatency      p50 %s, p99 %s, max %s\ngenerator    %.2f µs of CPU per sample\n",
		count(int(r.Sent)), count(int(r.Rejected)), count(int(r.Retried)), count(int(r.Rate())), brief(r.P50), brief(r.P99), brief(r.Max), perSample(r.OwnCPU, r.Sent))
	if len(tree) > 0 && watchErr == nil {
		after, cpuErr := tree.CPU()
		if cpuErr != nil {
			return cpuErr
		}
		fmt.Printf("processes    %.2f µs of CPU per sample, %s of memory at most\n", perSample(after-before, r.Sent), bytesText(peak.Memory))
	}
	if r.Rejection != "" {
		fmt.Printf("first rejection: %s\n", r.Rejection)
	}
	return errors.Join(err, watchErr)
}

// progress shows how far a run is, if there is a terminal, until hide is called.
func (s *Sender) progress() (hide func()) {
	info, err := os.Stderr.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer fmt.Fprint(os.Stderr, "\r\033[K")
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		began := time.Now()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
			}
			const width = 40
			done := float64(s.done.Load()) / float64(s.Load.Samples())
			bar := make([]byte, width)
			for i := range bar {
				bar[i] = " #"[b2i(float64(i) < done*width)]
			}
			fmt.Fprintf(os.Stderr, "\r\033[K[%s] %3.0f %%  %s samples/s  %d retried, %d rejected", bar, 100*done,
				count(int(float64(s.done.Load())/time.Since(began).Seconds())), s.retried.Load(), s.rejected.Load())
		}
	}()
	return func() { close(end); <-ended }
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
