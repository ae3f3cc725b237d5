package storage

import (
	"sync/atomic"
	"time"
)

const (
	maxRest = 5 * time.Second // however long a step took
	// keepUp is how many parts may wait for a merge before there is no rest any more. One or two do when all is well: what was flushed in two
	// hours, and once a day the day that ended.
	keepUp = 4
)

// pacer spreads the steps of background work over time: after each it rests for as long as the step took, so that this work takes half of
// one connection's time at most. The more parts wait for a merge the shorter the rest, down to none. Guarded by DB.workMu but for hurry.
type pacer struct {
	now   func() time.Time
	sleep func(time.Duration)

	began   time.Time     // when the step that runs began
	rested  time.Duration // in all
	waiting int           // parts that wait for a merge
	hurry   atomic.Int32  // how many wait for the work
}

// newPacer returns one whose rests end when stopped is closed.
func newPacer(stopped <-chan struct{}) *pacer {
	return &pacer{now: time.Now, sleep: func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-stopped:
		}
	}}
}

// begin says that a step begins.
func (p *pacer) begin() { p.began = p.now() }

// rest follows a step.
func (p *pacer) rest() {
	if p.hurry.Load() > 0 {
		return
	}
	took := p.now().Sub(p.began)
	left := max(0, keepUp-max(1, p.waiting))
	if rest := min(took*time.Duration(left)/(keepUp-1), maxRest); rest > 0 {
		p.rested += rest
		p.sleep(rest)
	}
}
