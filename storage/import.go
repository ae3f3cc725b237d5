package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
	"github.com/promkeep/promkeep/storage/chunks"
)

// Import brings history into a database as packed rows. It does not lead: it touches neither the log nor the leader's parts,
// and may run beside a promkeep that serves, or without one. Each batch is a transaction with parts of its own, which the
// leader merges. A sample that it brings counts as accepted when its batch is committed: it replaces one with the same
// timestamp that was flushed, and is replaced by one that still waits in the log. Safe for concurrent use.
type Import struct {
	cfg       Config
	pool      *pgxpool.Pool // nil in a dry run without a database
	dry       bool
	batch     int64 // samples of a full batch
	status    schema.Status
	catalogue *catalogue.Catalogue
	chunks    *chunks.Store
	tenant    int32
	connect   func(ctx context.Context) (*pgx.Conn, error)

	mint, maxt int64 // ms: what is older or younger is not taken

	mu    sync.Mutex // guards what follows
	known map[[16]byte]knownSeries

	merging sync.Mutex // one merge, or wait for one, at a time
	Stats   ImportStats
}

// knownSeries is what the catalogue knows of a series.
type knownSeries struct {
	id             uint64
	started, ended int32 // hours since 1970
}

// maxKnown bounds the series that an import remembers.
const maxKnown = 4 << 20

// ImportStats counts what an import did, or in a dry run would do.
type ImportStats struct {
	Samples    atomic.Int64 // taken
	Series     atomic.Int64 // different ones; counted again once more than 4 million were seen
	Bytes      atomic.Int64 // of packed rows
	Parts      atomic.Int64
	TooOld     atomic.Int64 // samples before the retention
	TooNew     atomic.Int64 // samples in the future
	BadSeries  atomic.Int64 // series of batches whose labels cannot be stored
	BadSamples atomic.Int64 // histograms that are not valid
}

// ImportOptions say how to import.
type ImportOptions struct {
	Tenant string // "" is DefaultTenant
	// DryRun only counts. Nothing is written; without a URI there is no database at all.
	DryRun bool
	// BatchSamples is about how many samples are committed together; 4 million if 0. Large batches make few parts.
	BatchSamples int64
}

// maxFuture is how far a sample that is imported may be in the future, as is the default for those that are written.
const maxFuture = 10 * time.Minute

// OpenImport connects, migrates, and waits for the database to answer until ctx ends. Of cfg it uses URI, TimescaleDB,
// Retention, MaxConns, Logger and Now.
func OpenImport(ctx context.Context, cfg Config, opts ImportOptions) (_ *Import, err error) {
	cfg = cfg.withDefaults()
	now := cfg.Now()
	im := &Import{
		cfg: cfg, dry: opts.DryRun, batch: opts.BatchSamples, known: map[[16]byte]knownSeries{},
		mint: now.Add(-cfg.Retention).UnixMilli(), maxt: now.Add(maxFuture).UnixMilli(),
	}
	def(&im.batch, batchSamples)
	if opts.DryRun && cfg.URI == "" {
		return im, nil
	}
	pc, err := parse(cfg)
	if err != nil {
		return nil, err
	}
	im.connect = func(ctx context.Context) (*pgx.Conn, error) { return connect(ctx, pc) }
	if opts.DryRun {
		return im, im.look(ctx, pc)
	}
	if im.status, err = prepare(ctx, pc, cfg.TimescaleDB, cfg.Logger); err != nil {
		return nil, err
	}
	if im.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			im.pool.Close()
		}
	}()
	im.catalogue = catalogue.New(im.pool, im.pool)
	im.chunks = chunks.New(im.pool, im.pool, im.status, cfg.Logger)
	im.chunks.OnCorrupt = func(r chunks.Row, err error) {
		cfg.Logger.Error("a packed row cannot be read", "row", r.String(), "err", err)
	}
	if opts.Tenant == "" {
		opts.Tenant = DefaultTenant
	}
	if im.tenant, err = im.catalogue.Tenant(ctx, opts.Tenant); err != nil {
		return nil, err
	}
	_, err = im.pool.Exec(ctx, schema.ImportExpire)
	return im, err
}

// look connects for a dry run, if the database is one whose notes of earlier imports can be read.
func (im *Import) look(ctx context.Context, pc *pgxpool.Config) error {
	conn, err := im.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if im.status, err = schema.Check(ctx, conn); err != nil || im.status.Version < im.status.Latest {
		return err
	}
	im.pool, err = pgxpool.NewWithConfig(ctx, pc)
	return err
}

// Close ends the import.
func (im *Import) Close() {
	if im.pool != nil {
		im.pool.Close()
	}
}

// Range is which samples are taken, in ms: those within the retention, and not in the future.
func (im *Import) Range() (mint, maxt int64) { return im.mint, im.maxt }

// Source identifies what is imported and how, so that an import that is started again goes on where it was.
type Source [16]byte

// Mark is how far the import of a unit of a source came. What Cursor says is the importer's own.
type Mark struct {
	Unit     int64
	Cursor   string
	Finished bool
	Samples  int64 // imported so far
}

// Marks returns the marks of the source, by unit.
func (im *Import) Marks(ctx context.Context, source Source) (map[int64]Mark, error) {
	out := map[int64]Mark{}
	if im.pool == nil {
		return out, nil
	}
	rows, err := im.pool.Query(ctx, schema.ImportMarks, uuid(source))
	if err != nil {
		return nil, err
	}
	var m Mark
	_, err = pgx.ForEachRow(rows, []any{&m.Unit, &m.Cursor, &m.Finished, &m.Samples}, func() error {
		out[m.Unit] = m
		return nil
	})
	return out, err
}

// Forget removes the marks of the source, so that it is imported again from its beginning.
func (im *Import) Forget(ctx context.Context, source Source) error {
	if im.dry {
		return nil
	}
	_, err := im.pool.Exec(ctx, schema.ImportForget, uuid(source))
	return err
}

func uuid(b [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: b, Valid: true} }

// patience is how long an import goes on trying when the database is away.
const patience = 10 * time.Minute

// again does a step, and does it again while its error is one that passes.
func (im *Import) again(ctx context.Context, step func() error) error {
	began := time.Now()
	for delay := 200 * time.Millisecond; ; delay = min(2*delay, 10*time.Second) {
		err := step()
		if err == nil || ctx.Err() != nil || !passing(err) || time.Since(began) > patience {
			return err
		}
		im.cfg.Logger.Warn("the database did not take a batch; trying again", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
}

func passing(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == pgerrcode.DeadlockDetected || pg.Code == pgerrcode.SerializationFailure) {
		return true
	}
	return !permanent(err)
}

// Settle waits until the promkeep that serves, if there is one, gives answers that have in them all that was imported so far, by
// an earlier import that was killed too. It says whether that is so; without one it is, at its next start.
func (im *Import) Settle(ctx context.Context, wait time.Duration) (bool, error) {
	if im.dry {
		return true, nil
	}
	target := int64(-1)
	for began := time.Now(); ; {
		serves, err := im.served(ctx)
		if err != nil || !serves {
			return true, err
		}
		var imports, seen, until int64
		if err := im.pool.QueryRow(ctx, schema.Imports).Scan(&imports, &seen, &until); err != nil {
			return false, err
		}
		if target < 0 {
			target = imports
		}
		if seen >= target {
			return true, nil
		}
		if time.Since(began) > wait {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// served tells whether a promkeep leads.
func (im *Import) served(ctx context.Context) (serves bool, err error) {
	err = im.pool.QueryRow(ctx, schema.LeaderPresent).Scan(&serves)
	return serves, err
}

// maxUnmerged is how many parts may wait to be merged before an import waits for that.
const maxUnmerged = 24

// room waits until not too many parts wait to be merged. Without a promkeep that serves it merges them itself.
func (im *Import) room(ctx context.Context) error {
	im.merging.Lock()
	defer im.merging.Unlock()
	for waited := false; ; waited = true {
		var n int
		if err := im.pool.QueryRow(ctx, schema.PartUnmerged).Scan(&n); err != nil {
			return err
		}
		if n < maxUnmerged {
			return nil
		}
		serves, err := im.served(ctx)
		if err != nil {
			return err
		}
		if !serves {
			if err := im.merge(ctx); err != nil {
				return err
			}
			continue
		}
		if !waited {
			im.cfg.Logger.Info("waiting for the promkeep that serves to merge what was imported", "parts", n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// merge leads for as long as it takes to merge all parts that are sealed. A promkeep that starts meanwhile stands by.
func (im *Import) merge(ctx context.Context) error {
	conn, err := im.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var leads bool
	if err := conn.QueryRow(ctx, schema.LeaderLock).Scan(&leads); err != nil || !leads {
		return err
	}
	var epoch int64
	if err := conn.QueryRow(ctx, schema.LeaderEpochNext).Scan(&epoch); err != nil {
		return err
	}
	// Nobody deletes while this process leads.
	erased, _, err := loadErased(ctx, im.pool)
	if err != nil {
		return err
	}
	im.chunks.Erased = erased.of
	began := time.Now()
	var rows int64
	for {
		// Whoever lost the lock with the connection must stop.
		if err := conn.Ping(ctx); err != nil {
			return err
		}
		m, err := im.chunks.Merge(ctx, epoch)
		if errors.Is(err, chunks.ErrFenced) {
			return nil // another one leads now, and merges
		}
		if err != nil {
			return fmt.Errorf("merging: %w", err)
		}
		rows += m.Rows
		if m.Done {
			im.cfg.Logger.Debug("merged", "rows", rows, "took", time.Since(began).Round(time.Millisecond))
			if err := im.chunks.DropMerged(ctx); err != nil && !errors.Is(err, chunks.ErrBusy) {
				return err
			}
			return nil
		}
	}
}
