package importer

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Progress shows how far an import is: as a bar on a terminal, as lines in the log otherwise. The methods of a nil one do nothing.
type Progress struct {
	out     io.Writer // nil: lines in the log
	logger  *slog.Logger
	samples func() int64 // imported so far

	total, done, skipped atomic.Int64 // in what the source is measured in

	complaints atomic.Int64
	began      time.Time
	stop       chan struct{}
	stopped    sync.WaitGroup
}

// The times between two pictures.
const (
	barEach  = 200 * time.Millisecond
	lineEach = 10 * time.Second
)

// NewProgress begins. samples tells how many were imported; out is a terminal, or nil if there is none.
func NewProgress(out io.Writer, logger *slog.Logger, samples func() int64) *Progress {
	p := &Progress{out: out, logger: logger, samples: samples, began: time.Now(), stop: make(chan struct{})}
	each := barEach
	if out == nil {
		each = lineEach
	}
	p.stopped.Go(func() {
		tick := time.NewTicker(each)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.show()
			}
		}
	})
	return p
}

// Close ends the picture.
func (p *Progress) Close() {
	if p == nil {
		return
	}
	close(p.stop)
	p.stopped.Wait()
	if p.out != nil {
		p.show()
		fmt.Fprintln(p.out)
	}
}

// Expect adds to what there is to do.
func (p *Progress) Expect(n int64) {
	if p != nil {
		p.total.Add(n)
	}
}

// Add adds to what has been read.
func (p *Progress) Add(n int64) {
	if p != nil {
		p.done.Add(n)
	}
}

// Skip adds what an earlier import has done.
func (p *Progress) Skip(n int64) {
	if p != nil {
		p.skipped.Add(n)
	}
}

// Skipped is the share, of 1, that an earlier import has done.
func (p *Progress) Skipped() float64 {
	if p == nil || p.total.Load() == 0 {
		return 0
	}
	return min(float64(p.skipped.Load())/float64(p.total.Load()), 1)
}

// maxComplaints is how many series that cannot be stored are named.
const maxComplaints = 10

func (p *Progress) complain(logger *slog.Logger, err error) {
	n := int64(1)
	if p != nil {
		n = p.complaints.Add(1)
	}
	switch {
	case n <= maxComplaints:
		logger.Warn("a series is left out", "err", err)
	case n == maxComplaints+1:
		logger.Warn("more series are left out; they are counted, and not named")
	}
}

// left says how long it will take, or "" if that cannot be told.
func (p *Progress) left() string {
	total, done, skipped := p.total.Load(), p.done.Load(), p.skipped.Load()
	if done == 0 || total <= 0 {
		return ""
	}
	rest := max(total-skipped-done, 0)
	return (time.Duration(float64(time.Since(p.began)) * float64(rest) / float64(done))).Round(time.Second).String()
}

func (p *Progress) show() {
	total, samples := p.total.Load(), p.samples()
	rate := float64(samples) / max(time.Since(p.began).Seconds(), 1e-3)
	share := 0.0
	if total > 0 {
		share = min(float64(p.done.Load()+p.skipped.Load())/float64(total), 1)
	}
	if p.out == nil {
		p.logger.Info("importing", "done", fmt.Sprintf("%.1f%%", 100*share), "samples", samples, "samples_per_second", int64(rate), "left", p.left())
		return
	}
	const width = 30
	bar := strings.Repeat("#", int(width*share)) + strings.Repeat(".", width-int(width*share))
	line := fmt.Sprintf("[%s] %5.1f %%  %s samples  %s/s", bar, 100*share, short(float64(samples)), short(rate))
	if left := p.left(); left != "" && share < 1 {
		line += "  " + left + " left"
	}
	fmt.Fprintf(p.out, "\r%-79s", line)
}

// short writes a number with three digits and a unit.
func short(x float64) string {
	for _, u := range []struct {
		unit  string
		value float64
	}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		if x >= u.value {
			return fmt.Sprintf("%.3g %s", x/u.value, u.unit)
		}
	}
	return fmt.Sprintf("%.0f", x)
}

func date(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
