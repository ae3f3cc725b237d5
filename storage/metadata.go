package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/catalogue"
)

// Metadata is written when it is new or changed, in the background, by one writer that gathers what comes while it is busy.
// A request of metadata alone is acknowledged when that is committed. One with samples does not wait for it: its senders
// announce metadata again and again, so what a crash takes away comes back.

const (
	maxMetadataWaiting   = 50_000   // entries that wait to be written; what comes above is left to its next announcement
	maxMetadataBytes     = 16 << 20 // of their texts
	maxMetadataPerFamily = 16       // different entries of one family that are kept
	metadataStep         = 5_000    // entries of one statement
)

// announcement is metadata of a metric family that may have to be written.
type announcement struct {
	tenant             int32
	day                int32 // since 1970
	family, help, unit string
	kind               model.MetricType
}

type metadataWriter struct {
	db     *DB
	seed   maphash.Seed
	stored hashSet // of announcements that are in the database

	mu      sync.Mutex // guards what follows
	waiting map[announcement]uint64
	bytes   int // of the texts of waiting
	waiters []chan error
	running bool
	closed  bool
	idle    sync.WaitGroup
	expired int32 // day on which what is old was last dropped
}

func newMetadataWriter(db *DB) *metadataWriter {
	return &metadataWriter{db: db, seed: maphash.MakeSeed(), waiting: map[announcement]uint64{}}
}

// hashSet is a bounded set of hashes that forgets some when it is full. Safe for concurrent use, without locks.
type hashSet struct {
	slots [1 << 17]atomic.Uint64
}

const hashSetWays = 4 // slots that a hash may be in

func (s *hashSet) has(h uint64) bool {
	for i := range uint64(hashSetWays) {
		if s.slots[(h+i)%uint64(len(s.slots))].Load() == h {
			return true
		}
	}
	return false
}

func (s *hashSet) add(h uint64) {
	for i := range uint64(hashSetWays) {
		if s.slots[(h+i)%uint64(len(s.slots))].CompareAndSwap(0, h) {
			return
		}
	}
	s.slots[(h+h>>62)%uint64(len(s.slots))].Store(h)
}

// hash of 64 bits under a secret seed: of a million announcements two are taken for the same with a chance of 1 in 10^7, and
// then until the next day only.
func (w *metadataWriter) hash(a *announcement) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	var ids [8]byte
	binary.LittleEndian.PutUint32(ids[:], uint32(a.tenant))
	binary.LittleEndian.PutUint32(ids[4:], uint32(a.day))
	h.Write(ids[:])
	for _, s := range [...]string{a.family, string(a.kind), a.unit, a.help} {
		h.WriteString(s)
		h.WriteByte(0) // which none of the texts holds
	}
	return h.Sum64() | 1 // 0 is an empty slot
}

// digest is the first 128 bits of SHA-256 over type, help and unit, each followed by a zero byte.
func (a *announcement) digest() pgtype.UUID {
	sum := sha256.Sum256([]byte(string(a.kind) + "\x00" + a.help + "\x00" + a.unit + "\x00"))
	return pgtype.UUID{Bytes: [16]byte(sum[:16]), Valid: true}
}

// announced is an announcement of a batch that is not known to be stored.
type announced struct {
	announcement
	hash uint64
}

// Metadata says what a metric family is. The strings, without zero bytes, are copied. It becomes durable with Commit if the
// batch has no samples, and soon afterwards otherwise. Names longer than a label value may be are left out.
func (b *Batch) Metadata(family string, m metadata.Metadata) {
	if family == "" || len(family) > catalogue.MaxLabelValue {
		return
	}
	a := announcement{
		tenant: b.tenant.ID, day: int32(b.db.cfg.Now().Unix() / 86400),
		family: family, help: m.Help, unit: m.Unit, kind: m.Type,
	}
	w := b.db.metadata
	h := w.hash(&a)
	if w.stored.has(h) || len(b.announced) > 0 && b.announced[len(b.announced)-1].hash == h {
		return
	}
	a.family, a.help, a.unit = strings.Clone(family), strings.Clone(m.Help), strings.Clone(m.Unit)
	b.announced = append(b.announced, announced{a, h})
}

// put has the announcements written, and waits for that if told so.
func (w *metadataWriter) put(ctx context.Context, list []announced, wait bool) error {
	var done chan error
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return unavailable(errors.New("promkeep is stopping"))
	}
	for _, a := range list {
		if _, ok := w.waiting[a.announcement]; ok {
			continue
		}
		if len(w.waiting) >= maxMetadataWaiting || w.bytes > maxMetadataBytes {
			if wait {
				w.mu.Unlock()
				return overloaded("too much metadata waits to be written")
			}
			break
		}
		w.waiting[a.announcement] = a.hash
		w.bytes += len(a.family) + len(a.help) + len(a.unit)
	}
	if wait {
		done = make(chan error, 1)
		w.waiters = append(w.waiters, done)
	}
	if !w.running {
		w.running = true
		w.idle.Add(1)
		go w.run()
	}
	w.mu.Unlock()
	if !wait {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// run writes until nothing waits.
func (w *metadataWriter) run() {
	defer w.idle.Done()
	for {
		w.mu.Lock()
		round, waiters := w.waiting, w.waiters
		if len(round) == 0 && len(waiters) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.waiting, w.waiters, w.bytes = map[announcement]uint64{}, nil, 0
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := w.write(ctx, round)
		cancel()
		if err != nil {
			w.db.cfg.Logger.Warn("metadata was not written; its senders will announce it again", "entries", len(round), "err", err)
			err = unavailable(err)
		}
		for _, done := range waiters {
			done <- err
		}
	}
}

func (w *metadataWriter) write(ctx context.Context, round map[announcement]uint64) error {
	if day := int32(w.db.cfg.Now().Unix() / 86400); day != w.expired {
		oldest := day - int32(w.db.retention.longest/(24*time.Hour)) - 1
		if _, err := w.db.pool.Exec(ctx, schema.MetadataExpire, oldest, maxMetadataPerFamily); err != nil {
			return err
		}
		w.expired = day
	}
	var (
		tenants, days               []int32
		families, kinds, help, unit []string
		digests                     []pgtype.UUID
		hashes                      []uint64
	)
	write := func() error {
		if len(tenants) == 0 {
			return nil
		}
		if _, err := w.db.pool.Exec(ctx, schema.MetadataPut, tenants, families, digests, kinds, help, unit, days); err != nil {
			return err
		}
		for _, h := range hashes {
			w.stored.add(h)
		}
		tenants, days, families, kinds, help, unit = tenants[:0], days[:0], families[:0], kinds[:0], help[:0], unit[:0]
		digests, hashes = digests[:0], hashes[:0]
		return nil
	}
	// At midnight a round may have the same metadata for two days, of which one statement takes one.
	latest := make(map[announcement]int32, len(round))
	for a := range round {
		day := a.day
		a.day = 0
		latest[a] = max(latest[a], day)
	}
	for a, h := range round {
		key := a
		key.day = 0
		if latest[key] != a.day {
			continue
		}
		tenants, families, digests = append(tenants, a.tenant), append(families, a.family), append(digests, a.digest())
		kinds, help, unit, days = append(kinds, string(a.kind)), append(help, a.help), append(unit, a.unit), append(days, a.day)
		hashes = append(hashes, h)
		if len(tenants) == metadataStep {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

func (w *metadataWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.idle.Wait()
}

// MetricMetadata returns the distinct metadata per metric family of the context's tenant, what was announced last first: of all
// families, or of one if metric is not empty. At most limit families, in the order of names, and perMetric entries of each; a
// limit below 0 is none.
func (db *DB) MetricMetadata(ctx context.Context, metric string, limit, perMetric int) (map[string][]metadata.Metadata, error) {
	out := map[string][]metadata.Metadata{}
	tenant, ok, err := db.catalogue.LookupTenant(ctx, tenantOf(ctx))
	if err != nil {
		return nil, unavailable(err)
	}
	if !ok || strings.IndexByte(metric, 0) >= 0 { // which PostgreSQL does not take, and no name holds
		return out, nil
	}
	rows, err := db.reads.Query(ctx, schema.MetadataRead, tenant, metric, limit, perMetric)
	if err != nil {
		return nil, unavailable(err)
	}
	var (
		family string
		m      metadata.Metadata
	)
	_, err = pgx.ForEachRow(rows, []any{&family, (*string)(&m.Type), &m.Help, &m.Unit}, func() error {
		out[family] = append(out[family], m)
		return nil
	})
	if err != nil {
		return nil, unavailable(err)
	}
	return out, nil
}
