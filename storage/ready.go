package storage

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
)

const (
	readyDays     = 2                // of the past, whose tables are looked at
	readyTimeout  = 10 * time.Second // of one try
	readyPatience = time.Second      // of Open
	readyRest     = 5 * time.Second  // after a try at least, and twice as long after the next that fails
	readyMost     = time.Minute
)

// readiness keeps one connection for queries that has asked before what queries ask, so that the first one need not wait until a connection is made and PostgreSQL
// has read its own catalogue, parsed and planned. Connections that queries make when there is none are not made ready: what they ask does that.
//
// It holds nobody up but Open, for readyPatience at most: it waits for no lock longer than 10 ms, takes a connection only where one is idle or none is there, and has one at a time, for
// milliseconds; and when it fails, it tries again after a while.
type readiness struct {
	pool  *pgxpool.Pool
	now   func() int64 // ms; since start
	ready atomic.Int32 // connections
	wake  chan struct{}
	end   context.CancelFunc
	ended chan struct{}
	tried chan struct{} // closed after the first try
}

// isReady is the key of CustomData of a connection that counts.
const isReady = "promkeep_ready"

func newReadiness() *readiness {
	return &readiness{wake: make(chan struct{}, 1)}
}

// closing is for the pool to call before it closes a connection.
func (r *readiness) closing(conn *pgx.Conn) {
	if conn.PgConn().CustomData()[isReady] != nil {
		r.ready.Add(-1)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// start begins to keep a connection of the pool ready, until stop, unless it was called before. The time is asked once: what passes after that is counted.
func (r *readiness) start(pool *pgxpool.Pool, now func() time.Time) {
	if r.end != nil {
		return
	}
	began, at := time.Now(), now()
	r.now = func() int64 { return at.Add(time.Since(began)).UnixMilli() }
	ctx, end := context.WithCancel(context.Background())
	r.pool, r.end, r.ended, r.tried = pool, end, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(r.ended)
		tried := sync.OnceFunc(func() { close(r.tried) })
		for delay := readyRest; ; {
			// There is nobody to tell of an error: a query that meets it will.
			_ = r.once(ctx)
			tried()
			rest := time.NewTimer(delay)
			select {
			case <-ctx.Done():
				return
			case <-rest.C:
			}
			if r.ready.Load() == 0 {
				delay = min(2*delay, readyMost)
				continue
			}
			delay = readyRest
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
			}
		}
	}()
}

// wait returns after the first try, or readyPatience: until then a query would not find the connection that is being made ready, and make one of its own.
func (r *readiness) wait(ctx context.Context) {
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	select {
	case <-r.tried:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// stop must be called before the pool is closed. It may be called without start.
func (r *readiness) stop() {
	if r.end != nil {
		r.end()
		<-r.ended
	}
}

// once makes a connection ready if none is.
func (r *readiness) once(ctx context.Context) error {
	if stat := r.pool.Stat(); r.ready.Load() > 0 || stat.TotalConns() > 0 && stat.IdleConns() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := r.prepare(ctx, conn.Conn()); err != nil {
		// With it goes what was set for it, and statements of which it is not known whether they are prepared.
		return conn.Conn().Close(context.WithoutCancel(ctx))
	}
	conn.Conn().PgConn().CustomData()[isReady] = true
	r.ready.Add(1)
	return nil
}

func (r *readiness) prepare(ctx context.Context, conn *pgx.Conn) error {
	// Not only for the transaction: preparing statements takes locks before it.
	if _, err := conn.Exec(ctx, schema.ReadyPatience, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	if err := catalogue.Ready(ctx, conn); err != nil {
		return err
	}
	now := r.now()
	if err := chunks.Ready(ctx, conn, now-readyDays*chunks.Day, now); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, schema.ReadyPatienceEnd, pgx.QueryExecModeSimpleProtocol)
	return err
}
