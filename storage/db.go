package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
	"github.com/promkeep/promkeep/storage/head"
	"github.com/promkeep/promkeep/storage/samplelog"
	"github.com/promkeep/promkeep/storage/series"
)

// DB is promkeep's store. Safe for concurrent use.
type DB struct {
	cfg       Config
	retention retention
	pool      *pgxpool.Pool // for writing, and all work in the background
	reads     *pgxpool.Pool // for queries
	readiness *readiness    // of a connection of reads
	status    schema.Status
	catalogue *catalogue.Catalogue
	head      *head.Head
	log       *samplelog.Log
	chunks    *chunks.Store
	resolver  *resolver
	metadata  *metadataWriter
	exemplars exemplarBuffer
	unended   []head.Ended // series that left memory without the catalogue knowing; guarded by flushMu
	retired   retirement   // guarded by flushMu
	imported  imported
	metrics   *metrics

	erased      atomic.Pointer[erasures]
	tombstones  atomic.Int64 // how many the database holds
	retiring    atomic.Int64 // days whose rows hold what is past a rule's retention, as far as known
	staleErased bool         // the database may know of other tombstones than erased; guarded by flushMu

	queryBytes atomic.Int64 // held by queries
	streamDays int64        // how many days of a series a stream holds at once
	youngest   atomic.Int64 // ms, the youngest sample ever taken; 0 if there is none
	size       atomic.Int64 // bytes on disk, as last measured
	logSize    atomic.Int64 // bytes of the log on disk, as last measured
	tenantMu   sync.Mutex   // held to create a tenant within the limit
	oversize   bool         // the store is larger than it may be; guarded by flushMu
	workMu     sync.Mutex   // one round of background work at a time; taken before flushMu
	flushMu    sync.Mutex   // one flush, deletion or step of background work at a time
	pace       *pacer
	busy       map[string]bool  // background work that waits for open transactions, by job; guarded by workMu
	noted      map[string]int64 // what SQL was told of background work; guarded by workMu
	flushNow   chan struct{}
	stop       context.CancelFunc
	background sync.WaitGroup
	closeOnce  sync.Once
}

// Migrate brings the database to the version of this binary, waiting for it to answer until ctx ends.
func Migrate(ctx context.Context, cfg Config) (schema.Status, error) {
	cfg = cfg.withDefaults()
	pc, err := parse(cfg)
	if err != nil {
		return schema.Status{}, err
	}
	st, err := prepare(ctx, pc, cfg.TimescaleDB, cfg.Logger)
	if err != nil {
		return st, err
	}
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig.Copy())
	if err != nil {
		return st, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return st, st.Measure(ctx, conn)
}

// Open connects, migrates, waits to be the one promkeep that serves the database, and replays what was not flushed. It
// waits for the database to answer until ctx ends.
func Open(ctx context.Context, cfg Config) (_ *DB, err error) {
	cfg = cfg.withDefaults()
	pc, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, retention: newRetention(cfg), head: head.New(), streamDays: seriesDays, flushNow: make(chan struct{}, 1)}
	if db.status, err = prepare(ctx, pc, cfg.TimescaleDB, cfg.Logger); err != nil {
		return nil, err
	}
	cfg.Logger.Info("the database is ready", "server", db.status.Server, "schema", db.status.Version,
		"layout", db.status.Layout, "timescaledb", describe(db.status.TimescaleDB))
	if err := db.connect(ctx, pc); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.disconnect()
		}
	}()
	db.metrics = newMetrics(cfg.Registerer, db)
	db.catalogue = catalogue.New(db.pool, db.reads)
	db.chunks = chunks.New(db.pool, db.reads, db.status, cfg.Logger)
	db.chunks.OnCorrupt = db.corrupt
	db.chunks.Erased = func(id uint64) []chunks.Span { return db.erasedNow().of(id) }
	db.resolver = newResolver(db)
	db.metadata = newMetadataWriter(db)

	var youngest int64
	if err := db.pool.QueryRow(ctx, schema.Youngest).Scan(&youngest); err != nil {
		return nil, err
	}
	db.youngest.Store(youngest)
	if err := db.recover(ctx, pc); err != nil {
		return nil, err
	}
	if _, _, err := db.catalogue.LookupTenant(ctx, DefaultTenant); err != nil { // before the first query does
		db.log.Close()
		return nil, err
	}
	db.staleErased = true
	err = db.reloadErased(ctx)
	if err == nil {
		err = db.publishRetention(ctx)
	}
	if err != nil {
		db.log.Close()
		return nil, err
	}
	db.readiness.wait(ctx)
	runtime.GC() // What loading leaves behind is as much as what stays, and would be collected during the first queries.
	run, stop := context.WithCancel(context.Background())
	db.stop = stop
	db.busy, db.noted = map[string]bool{}, map[string]int64{}
	db.pace = newPacer(run.Done())
	if !cfg.NoMaintenance {
		db.background.Add(2)
		go db.keepFlushing(run)
		go db.maintain(run)
	}
	return db, nil
}

// backgroundConns is how many of the connections are kept for writing and work in the background: new series, flush, merge.
const backgroundConns = 3

// connect opens the pools. Queries have one of their own, so that many of them cannot hold up writing.
func (db *DB) connect(ctx context.Context, pc *pgxpool.Config) (err error) {
	writes, reads := pc.Copy(), pc.Copy()
	writes.MaxConns = backgroundConns
	reads.MaxConns = max(1, pc.MaxConns-backgroundConns)
	db.readiness = newReadiness()
	reads.BeforeClose = db.readiness.closing
	if db.pool, err = pgxpool.NewWithConfig(ctx, writes); err != nil {
		return err
	}
	if db.reads, err = pgxpool.NewWithConfig(ctx, reads); err != nil {
		db.pool.Close()
	}
	return err
}

func (db *DB) disconnect() {
	db.readiness.stop()
	db.pool.Close()
	db.reads.Close()
}

func describe(e schema.Edition) string {
	if e == schema.EditionNone {
		return "none"
	}
	return string(e)
}

// recover leads, loads the active series, replays the log, and fills the cache.
func (db *DB) recover(ctx context.Context, pc *pgxpool.Config) error {
	began := db.cfg.Now()
	var replayed int64
	loaded := false
	stream := [16]byte{}
	if _, err := rand.Read(stream[:]); err != nil {
		return err
	}
	log, err := samplelog.Open(ctx, samplelog.Config{
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return connect(ctx, pc) },
		Replayed: func(payload []byte) error {
			// Not before this process leads: until then another one creates series.
			if !loaded {
				if err := db.loadSeries(ctx); err != nil {
					return err
				}
				loaded = true
			}
			n, err := db.replay(ctx, payload)
			replayed += n
			return err
		},
		// The pool's connections broke with the log's.
		Resumed: func() {
			db.pool.Reset()
			db.reads.Reset()
		},
		Stream:        stream,
		Logger:        db.cfg.Logger,
		MaxQueueBytes: db.cfg.QueueBytes,
		ObserveCommit: db.metrics.commit,
	})
	if err != nil {
		return err
	}
	db.log = log
	if !loaded {
		err = db.loadSeries(ctx)
	}
	if err == nil {
		err = db.warm(ctx)
	}
	if err != nil {
		log.Close()
		return err
	}
	db.cfg.Logger.Info("replayed the log", "samples", replayed, "series", db.head.Len(), "cached_bytes", db.head.CachedBytes(),
		"took", db.cfg.Now().Sub(began).Round(time.Millisecond))
	return nil
}

func (db *DB) loadSeries(ctx context.Context) error {
	db.readiness.start(db.reads, db.cfg.Now) // meanwhile
	return db.catalogue.Active(ctx, func(s catalogue.Series) {
		db.head.Tenant(s.Tenant).Add(head.Key{}, s.ID, s.Labels, s.Started)
	})
}

// replay applies a row of the log.
func (db *DB) replay(ctx context.Context, payload []byte) (n int64, err error) {
	find := func(id uint64) (*head.Series, error) {
		if s := db.head.ByID(id); s != nil {
			return s, nil
		}
		if err := db.addByID(ctx, []uint64{id}); err != nil {
			return nil, err
		}
		if s := db.head.ByID(id); s != nil {
			return s, nil
		}
		return nil, fmt.Errorf("the log has a sample of series %d, which is not in the catalogue", id)
	}
	err = readPayload(payload, func(id uint64, t, st int64, v float64) error {
		s, err := find(id)
		if err != nil {
			return err
		}
		db.head.Append(s, t, st, v)
		db.seen(t)
		n++
		return nil
	}, func(id uint64, h series.Histogram) error {
		s, err := find(id)
		if err != nil {
			return err
		}
		db.head.AppendHistogram(s, h)
		db.seen(h.T)
		n++
		return nil
	}, func(id uint64, t int64, value float64, labels string) error {
		s, err := find(id)
		if err != nil {
			return err
		}
		s.Lived(t)
		db.exemplars.add(exemplarItem{s, t, value, labels})
		return nil
	})
	return n, err
}

func (db *DB) addByID(ctx context.Context, ids []uint64) error {
	return db.catalogue.Revive(ctx, ids, func(c catalogue.Series) {
		s := db.head.Tenant(c.Tenant).Add(head.Key{}, c.ID, c.Labels, c.Started)
		if c.Ended != catalogue.Unknown {
			s.Lived(catalogue.HourEnd(c.Ended))
		}
	})
}

// warm loads the rows of the cache window, so that queries of the last hours need no database.
func (db *DB) warm(ctx context.Context) error {
	from := db.cfg.Now().Add(-db.cfg.CacheWindow).UnixMilli()
	unknown := map[uint64][]head.Row{}
	err := db.chunks.ReadSince(ctx, from, func(r chunks.Row) error {
		row := headRow(r)
		if s := db.head.ByID(r.SeriesID); s != nil {
			db.head.AddRow(s, row)
		} else {
			unknown[r.SeriesID] = append(unknown[r.SeriesID], row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		ids := make([]uint64, 0, len(unknown))
		for id := range unknown {
			ids = append(ids, id)
		}
		if err := db.addByID(ctx, ids); err != nil {
			return err
		}
		for id, rows := range unknown {
			if s := db.head.ByID(id); s != nil {
				for _, r := range rows {
					db.head.AddRow(s, r)
				}
			}
		}
	}
	// What else a series had is not known, only that it had it before now.
	db.head.Lived(db.cfg.Now().UnixMilli())
	db.head.SetCoverFrom(from)
	db.boundCache(from)
	return nil
}

func headRow(r chunks.Row) head.Row {
	return head.Row{Start: r.Start, End: r.End, N: r.N, Version: r.Version, Encoding: r.Encoding, Data: r.Data}
}

// Err is nil while samples can be written, and says why not otherwise.
func (db *DB) Err() error { return db.log.Err() }

// Fatal delivers an error when this process must not go on.
func (db *DB) Fatal() <-chan error { return db.log.Fatal() }

// Status of the database as it was at the start.
func (db *DB) Status() schema.Status { return db.status }

// maxAhead is how far the clock may be ahead of the youngest sample before it is doubted.
const maxAhead = 24 * time.Hour

// MinTime is the retention limit in ms: older samples are not taken, and days before it are dropped. Where series are kept for different
// times it is that of the longest.
func (db *DB) MinTime() int64 { return db.present() - db.retention.longest.Milliseconds() }

// seen notes a sample's time, in ms. It is called from one goroutine.
func (db *DB) seen(t int64) {
	if t > db.youngest.Load() {
		db.youngest.Store(t)
	}
}

// Close commits what is queued, and stops. What is not flushed stays in the log for the next start. Queries must have ended.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.stop()
		db.background.Wait()
		db.resolver.close()
		db.metadata.close()
		db.log.Close()
		db.disconnect()
		db.metrics.unregister()
	})
	return nil
}

func (db *DB) corrupt(r chunks.Row, err error) {
	db.metrics.corruptRows.Inc()
	db.cfg.Logger.Error("a packed row cannot be read", "row", r.String(), "metric", db.catalogue.MetricName(r.SeriesID),
		"from", time.UnixMilli(r.Start).UTC(), "to", time.UnixMilli(r.End).UTC(), "err", err)
}

func logError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, samplelog.ErrOverloaded):
		return overloaded("the log's queue is full")
	default:
		return unavailable(err)
	}
}
