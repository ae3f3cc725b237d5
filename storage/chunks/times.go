package chunks

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/codec"
)

// Times is the timestamps of several packed rows: all series of a target are scraped at the same moments. A row that has them keeps
// the numbers 0, 1, 2, … in place of its timestamps, which cost nothing; Times is a packed row of the timestamps, with the value 0.
//
// In the long-term store large ones are kept once for a day, in the table times, and bundles refer to them: the series of a target are of
// many metrics, so of many bundles.
type Times struct {
	row    []byte // nil if it is kept in the table, and not read
	own    bool   // row is not part of a bundle's memory any more
	day    int64  // ms; of those that are kept in the table
	digest digest // likewise, or all zeros where it was not wanted yet
}

// A digest names a row of timestamps among those of its day: the beginning of its SHA-256.
type digest [digestLen]byte

const (
	digestLen = 16
	// referLeast is how many bytes a row of timestamps has at least that is kept in the table.
	referLeast = 64
)

// inBundle returns what a bundle keeps of t: the row, or the digest where it refers to the table.
func (t *Times) inBundle(refer bool) (data []byte, referred bool) {
	if t.row != nil && (!refer || len(t.row) < referLeast) {
		return t.row, false
	}
	if t.digest == (digest{}) {
		sum := sha256.Sum256(t.row)
		t.digest = digest(sum[:])
	}
	return t.digest[:], true
}

// keepTimes puts into the table what bundles of the rows in the long-term store will refer to.
func keepTimes(ctx context.Context, tx pgx.Tx, rows []Row) error {
	var days []int64
	var digests, data [][]byte
	seen := map[timesKey]bool{}
	var last *Times
	for _, r := range rows {
		if r.Times == nil || r.Times == last || r.Times.row == nil {
			continue
		}
		last = r.Times
		if _, referred := last.inBundle(true); referred {
			if key := (timesKey{floor(r.Start, Day), last.digest}); !seen[key] {
				seen[key] = true
				days, digests, data = append(days, key.day), append(digests, key.digest[:]), append(data, last.row)
			}
		}
	}
	if len(days) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, schema.TimesPut, days, digests, data)
	return err
}

type timesKey struct {
	day    int64
	digest digest
}

func (t *Times) key() timesKey { return timesKey{t.day, t.digest} }

// wantedTimes are those that have to be read from the table.
type wantedTimes map[timesKey]*Times

// knownTimes are those that were read from it of late.
type knownTimes struct {
	mu    sync.Mutex
	times map[timesKey]*Times
	bytes int
}

// knownBytes bounds what is remembered: a day of scrapes takes 0.5 to 4 KB, and about one target in four has irregular ones.
const knownBytes = 16 << 20

// find returns the Times in place of t, which is one of those known or wanted.
func (k *knownTimes) find(t *Times, wanted wantedTimes) *Times {
	if t == nil || t.row != nil {
		return t
	}
	if w := wanted[t.key()]; w != nil {
		return w
	}
	k.mu.Lock()
	known := k.times[t.key()]
	k.mu.Unlock()
	if known == nil {
		wanted[t.key()] = t
		return t
	}
	return known
}

// querier is a pool, a connection, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// read reads those that are wanted. One that is not there stays without a row, which whoever decodes it says.
func (k *knownTimes) read(ctx context.Context, db querier, wanted wantedTimes) error {
	if len(wanted) == 0 {
		return nil
	}
	var days []int64
	var digests [][]byte
	for key := range wanted {
		days, digests = append(days, key.day), append(digests, key.digest[:])
	}
	rows, err := db.Query(ctx, schema.TimesRead, days, digests)
	if err != nil {
		return err
	}
	var (
		day       int64
		name, row []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&day, &name, &row}, func() error {
		if t := wanted[timesKey{day, digest(name)}]; t != nil {
			t.row, t.own = slices.Clone(row), true
		}
		return nil
	})
	if err != nil {
		return err
	}
	k.remember(wanted)
	return nil
}

// remember keeps those of the Times that have been read, as far as there is room.
func (k *knownTimes) remember(read wantedTimes) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, t := range read {
		if t.row == nil || k.times[key] != nil {
			continue
		}
		if k.times == nil {
			k.times = map[timesKey]*Times{}
		}
		k.times[key] = t
		k.bytes += len(t.row)
	}
	for key, t := range k.times { // any go
		if k.bytes <= knownBytes {
			break
		}
		k.bytes -= len(t.row)
		delete(k.times, key)
	}
}

// timesOf finds the Times of rows that are made one after another.
type timesOf struct {
	t    [4][]int64
	made [4]*Times
	next int
}

// shared returns the Times of t (ms), or nil if they are regular and cost next to nothing anyway.
func (s *timesOf) shared(t []int64) *Times {
	if regular(t) {
		return nil
	}
	for i, known := range s.t {
		if slices.Equal(known, t) {
			return s.made[i]
		}
	}
	i := s.next % len(s.t)
	s.next++
	s.t[i] = append(s.t[i][:0], t...)
	s.made[i] = &Times{row: codec.Append(nil, t, make([]float64, len(t)), nil), own: true}
	return s.made[i]
}

func regular(t []int64) bool {
	for i := 2; i < len(t); i++ {
		if t[i]-t[i-1] != t[1]-t[0] {
			return false
		}
	}
	return true
}

// numbers returns 0, 1, … n-1, for n up to codec.MaxSamples.
func numbers(n int) []int64 { return counting()[:n] }

var counting = sync.OnceValue(func() []int64 {
	out := make([]int64, codec.MaxSamples)
	for i := range out {
		out[i] = int64(i)
	}
	return out
})

// decodedTimes is the timestamps of a Times, which mostly is wanted for several series in a row.
type decodedTimes struct {
	of   *Times
	cols codec.Columns
}

var timesScratch = sync.Pool{New: func() any { return new(decodedTimes) }}

// decodeRange appends the samples of a row of floats in [mint, maxt] (ms) to c. On error c is as it was.
func (r *Row) decodeRange(c *codec.Columns, mint, maxt int64) error {
	if r.Times == nil {
		return c.DecodeRange(r.Data, mint, maxt)
	}
	if r.Times.row == nil {
		return fmt.Errorf("%w: its timestamps are not in the table of them", codec.ErrCorrupt)
	}
	d := timesScratch.Get().(*decodedTimes)
	defer timesScratch.Put(d)
	if d.of != r.Times {
		d.of = nil
		d.cols.Reset()
		if err := d.cols.Decode(r.Times.row); err != nil {
			return fmt.Errorf("its timestamps: %w", err)
		}
		d.of = r.Times
	}
	t := d.cols.T
	if len(t) != int(r.N) {
		return fmt.Errorf("%w: %d timestamps for %d samples", codec.ErrCorrupt, len(t), r.N)
	}
	from := sort.Search(len(t), func(i int) bool { return t[i] >= mint })
	upto := from + sort.Search(len(t)-from, func(i int) bool { return t[from+i] > maxt })
	if from == upto {
		return nil
	}
	had := len(c.T)
	if err := c.DecodeRange(r.Data, int64(from), int64(upto-1)); err != nil {
		return err
	}
	if len(c.T)-had != upto-from {
		got := len(c.T) - had
		c.T, c.V = c.T[:had], c.V[:had]
		return fmt.Errorf("%w: %d samples of %d", codec.ErrCorrupt, got, upto-from)
	}
	copy(c.T[had:], t[from:upto])
	return nil
}

// Alone returns the row with timestamps of its own.
func (r Row) Alone() (Row, error) {
	if r.Times == nil {
		return r, nil
	}
	var c codec.Columns
	if err := r.decodeRange(&c, r.Start, r.End); err != nil {
		return r, &RowError{r, err}
	}
	r.Data, r.Times = codec.Append(nil, c.T, c.V, nil), nil
	return r, nil
}
