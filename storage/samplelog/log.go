package samplelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Position is a place in the log: all of the earlier segments, and the rows of Segment up to Seq.
type Position struct {
	Segment int32
	Seq     int64
}

// Config of a log. Connect and Replayed are required.
type Config struct {
	// Connect opens a connection with synchronous_commit on.
	Connect func(ctx context.Context) (*pgx.Conn, error)
	// Replayed is called, in commit order, with each payload that this process has not applied itself: at Open with all
	// that was never dropped, and after a lost connection with what turned out to be committed. It must not keep payload.
	Replayed func(payload []byte) error
	// Resumed, if not nil, is called when a lost connection has been replaced, before writes are taken again.
	Resumed func()
	Stream  [16]byte // identifies this adapter
	Logger  *slog.Logger

	MaxQueueBytes   int           // bound of payload bytes that wait for a commit; 0 is 64 MiB
	MaxGroupBytes   int           // bound of one commit; 0 is 4 MiB
	CommitTimeout   time.Duration // after it the connection is given up; 0 is 30 s
	CheckInterval   time.Duration // how often an idle connection is checked; 0 is 2 s
	StandbyInterval time.Duration // how often a standby tries to lead; 0 is 1 s
	ObserveCommit   func(rows, bytes int, took time.Duration)
}

// Item is what one request wants committed.
type Item struct {
	// Blocks are the payload, each at most MaxBlock bytes unless it cannot be cut. They stay untouched until Append
	// returns.
	Blocks [][]byte
	// Apply is called once after the commit, in the order of all commits, before Append returns. It must not block.
	Apply func()

	bytes   int
	barrier func(Line)
	done    chan error
	reached Line // set on the last item of a group
}

// MaxBlock is the size in bytes up to which blocks share a row that fits into a page of PostgreSQL.
const MaxBlock = 8000

// Log is the writer of the log. Safe for concurrent use.
type Log struct {
	cfg    Config
	stream pgtype.UUID
	number int32 // of the newest segment of the stream
	epoch  atomic.Int64

	mu      sync.Mutex // guards what follows
	queue   []*Item
	queued  int // bytes
	failed  error
	wake    chan struct{}
	applied Line // by the applier; read by it and after it has come to rest

	sess    *session    // of the writer goroutine
	table   Table       // that is written; of the writer goroutine
	turn    atomic.Bool // the other table is empty
	spent   *spent      // of who flushes
	apply   chan []*Item
	rest    chan chan struct{}
	cancel  context.CancelFunc
	stopped chan struct{}
	fatal   chan error
}

// Open leads the database (waiting as a standby while another promkeep does), replays what was never dropped, opens a
// segment and starts to commit.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	def(&cfg.MaxQueueBytes, 64<<20)
	def(&cfg.MaxGroupBytes, 4<<20)
	def(&cfg.CommitTimeout, 30*time.Second)
	def(&cfg.CheckInterval, 2*time.Second)
	def(&cfg.StandbyInterval, time.Second)
	l := &Log{
		cfg:     cfg,
		stream:  pgtype.UUID{Bytes: cfg.Stream, Valid: true},
		wake:    make(chan struct{}, 1),
		apply:   make(chan []*Item, 4),
		rest:    make(chan chan struct{}),
		stopped: make(chan struct{}),
		fatal:   make(chan error, 1),
	}
	s, err := l.lead(ctx)
	if err != nil {
		return nil, err
	}
	if err = s.replay(ctx, Position{}, cfg.Replayed); err == nil {
		err = l.open(ctx, s)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	l.setApplied(l.line(s))
	l.sess = s
	runCtx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.applier()
	go l.writer(runCtx)
	return l, nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Epoch of this leader, which every transaction that moves data must find unchanged.
func (l *Log) Epoch() int64 { return l.epoch.Load() }

// Fatal delivers ErrFenced when this process may not go on.
func (l *Log) Fatal() <-chan error { return l.fatal }

// Err is nil while the log takes items, and says why not otherwise.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// QueuedBytes is the size of what waits for a commit.
func (l *Log) QueuedBytes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued
}

// Append returns when the item is committed and applied: durable and visible. It cannot be cancelled, since a commit
// cannot; it is bounded by CommitTimeout.
func (l *Log) Append(item *Item) error {
	for _, b := range item.Blocks {
		item.bytes += len(b)
	}
	return l.enqueue(item)
}

// Barrier calls fn between two groups, when all that was committed up to the line is applied and nothing after it. The lines of two barriers
// must not be dropped at the same time.
func (l *Log) Barrier(fn func(Line)) error {
	return l.enqueue(&Item{barrier: fn})
}

func (l *Log) enqueue(item *Item) error {
	item.done = make(chan error, 1)
	l.mu.Lock()
	if l.failed != nil {
		err := l.failed
		l.mu.Unlock()
		return err
	}
	if item.bytes > 0 && l.queued > 0 && l.queued+item.bytes > l.cfg.MaxQueueBytes {
		l.mu.Unlock()
		return ErrOverloaded
	}
	l.queue = append(l.queue, item)
	l.queued += item.bytes
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return <-item.done
}

// Close commits what is queued, then stops and gives up the lead.
func (l *Log) Close() {
	l.mu.Lock()
	if l.failed == nil || !errors.Is(l.failed, ErrClosed) {
		l.failed = ErrClosed
	}
	l.mu.Unlock()
	l.cancel()
	<-l.stopped
}

// take returns the next group, cut at MaxGroupBytes; nil when nothing waits.
func (l *Log) take() []*Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.queue) && (n == 0 || size+l.queue[n].bytes <= l.cfg.MaxGroupBytes) {
		size += l.queue[n].bytes
		n++
	}
	if n == 0 {
		return nil
	}
	group := append([]*Item(nil), l.queue[:n]...)
	clear(l.queue[:n])
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	l.queued -= size
	return group
}

func (l *Log) writer(ctx context.Context) {
	defer close(l.stopped)
	defer close(l.apply)
	check := time.NewTicker(l.cfg.CheckInterval)
	defer check.Stop()
	var rows [][]byte
	for {
		group := l.take()
		if group == nil {
			select {
			case <-ctx.Done():
				if group = l.take(); group == nil {
					l.sess.close()
					return
				}
			case <-l.wake:
				continue
			case <-check.C:
				if err := l.ping(); err != nil && !l.reconnect(ctx, err) {
					return
				}
				continue
			}
		}
		var bytes int
		rows, bytes = pack(rows[:0], group)
		if len(rows) > 0 {
			began := time.Now()
			cctx, cancel := context.WithTimeout(context.Background(), l.cfg.CommitTimeout)
			err := l.sess.append(cctx, l.table, rows)
			cancel()
			clear(rows)
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrUnavailable, err)
				finish(group, err)
				if l.sess.conn.IsClosed() && !l.reconnect(ctx, err) {
					return
				}
				continue
			}
			if l.cfg.ObserveCommit != nil {
				l.cfg.ObserveCommit(len(rows), bytes, time.Since(began))
			}
		}
		// The position travels with the group: the applier may lag behind the session.
		if hasBarrier(group) && l.turn.Swap(false) {
			l.table = l.table.other() // what comes after the line goes there
		}
		group[len(group)-1].reached = l.line(l.sess)
		l.apply <- group
	}
}

func hasBarrier(group []*Item) bool {
	return slices.ContainsFunc(group, func(item *Item) bool { return item.barrier != nil })
}

// line is after all that the session has committed.
func (l *Log) line(s *session) Line {
	return Line{Position: Position{Segment: s.segment, Seq: s.seq}, Idle: l.table.other()}
}

func (l *Log) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.CommitTimeout)
	defer cancel()
	return l.sess.conn.Ping(ctx)
}

// pack lays the blocks of the group into rows below a page.
func pack(rows [][]byte, group []*Item) ([][]byte, int) {
	var row []byte
	owned := false // row is a copy that may grow
	total := 0
	for _, item := range group {
		for _, b := range item.Blocks {
			total += len(b)
			if len(row) > 0 && len(row)+len(b) > MaxBlock {
				rows, row, owned = append(rows, row), nil, false
			}
			switch {
			case len(row) == 0:
				row, owned = b, false
			case !owned:
				row = append(append(make([]byte, 0, MaxBlock), row...), b...)
				owned = true
			default:
				row = append(row, b...)
			}
		}
	}
	if len(row) > 0 {
		rows = append(rows, row)
	}
	return rows, total
}

func finish(group []*Item, err error) {
	for _, item := range group {
		item.done <- err
	}
}

// reconnect fails all that waits, and tries until the database is back. It returns false when the log is closed or
// fenced meanwhile.
func (l *Log) reconnect(ctx context.Context, cause error) bool {
	if !errors.Is(cause, ErrUnavailable) {
		cause = fmt.Errorf("%w: %w", ErrUnavailable, cause)
	}
	l.sess.close()
	l.cfg.Logger.Error("lost the connection to the database; writes are refused until it is back", "err", cause)
	l.fail(cause)
	began := time.Now()
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		select {
		case <-ctx.Done():
			l.fail(ErrClosed)
			return false
		case <-time.After(delay):
		}
		err := l.resume(ctx)
		if err == nil {
			break
		}
		if errors.Is(err, ErrFenced) {
			l.fail(ErrFenced)
			l.fatal <- ErrFenced
			return false
		}
		var pg *pgconn.PgError
		if delay >= time.Second || errors.As(err, &pg) {
			l.cfg.Logger.Warn("the database is still away", "for", time.Since(began).Round(time.Millisecond), "err", err)
		}
	}
	if l.cfg.Resumed != nil {
		l.cfg.Resumed()
	}
	l.mu.Lock()
	if l.failed == nil || !errors.Is(l.failed, ErrClosed) {
		l.failed = nil
	}
	l.mu.Unlock()
	l.cfg.Logger.Info("the database is back", "after", time.Since(began).Round(time.Millisecond))
	return true
}

// fail refuses all that waits and all that comes.
func (l *Log) fail(err error) {
	l.mu.Lock()
	if l.failed == nil || !errors.Is(l.failed, ErrClosed) {
		l.failed = err
	}
	waiting := l.queue
	l.queue, l.queued = nil, 0
	l.mu.Unlock()
	finish(waiting, err)
}

// resume leads again, applies what was committed without our knowing, and opens the next segment. Only then new commits
// follow: applied order is commit order.
func (l *Log) resume(ctx context.Context) error {
	s, err := l.lead(ctx)
	if err != nil {
		return err
	}
	if err := s.replay(ctx, l.settle(), l.cfg.Replayed); err != nil {
		s.close()
		return err
	}
	if err := l.open(ctx, s); err != nil {
		s.close()
		return err
	}
	l.setApplied(l.line(s))
	l.sess = s
	return nil
}
