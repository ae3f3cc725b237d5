package chunks

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/series"
)

// The levels of a part that an import may write.
const (
	LevelWindows = int16(0) // rows of any days, each within a Window, as a flush writes them
	LevelDay     = int16(1) // rows of one day
)

// ImportFence takes the leader's row until the transaction ends, without being the leader: flushes and merges wait. It returns
// the highest version of all rows that are committed.
func ImportFence(ctx context.Context, tx pgx.Tx) (version int32, err error) {
	err = tx.QueryRow(ctx, schema.ImportFence).Scan(&version)
	return version, err
}

// ImportCommit notes that rows of the version, with samples in [mint, maxt] (ms), are imported by the transaction.
func ImportCommit(ctx context.Context, tx pgx.Tx, version int32, mint, maxt int64) error {
	if _, err := tx.Exec(ctx, schema.ImportVersion, version, mint, maxt); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, schema.ImportCommit, version, maxt)
	return err
}

// imported is the rows of an import.
type imported struct {
	version    int32
	mint, maxt int64 // ms
}

// loadImports reads what was imported since the last time. An import that is committed later has a version above all rows
// that can be seen now.
func (s *Store) loadImports(ctx context.Context) error {
	last := int32(-1)
	if n := len(s.imports); n > 0 {
		last = s.imports[n-1].version
	}
	rows, err := s.pool.Query(ctx, schema.ImportVersions, last)
	if err != nil {
		return err
	}
	var i imported
	_, err = pgx.ForEachRow(rows, []any{&i.version, &i.mint, &i.maxt}, func() error {
		s.imports = append(s.imports, i)
		return nil
	})
	return err
}

// apart tells whether samples of [mint, maxt) (ms) were imported between two versions. Rows of these two must stay apart: a merged
// row has the higher version, and what came from the lower one would win over the import.
func (s *Store) apart(low, high int32, mint, maxt int64) bool {
	at, _ := slices.BinarySearchFunc(s.imports, low+1, func(i imported, version int32) int { return cmp.Compare(i.version, version) })
	for _, i := range s.imports[at:] {
		if i.version > high {
			break
		}
		if i.mint < maxt && i.maxt >= mint {
			return true
		}
	}
	return false
}

// SealedPart creates a part that belongs to the transaction alone: nobody adds rows to it, and once they are committed the
// leader merges it. start (ms) is the day of its samples, or the window of the oldest. It comes behind ImportFence, since
// whoever creates parts takes the leader's row first.
func SealedPart(ctx context.Context, tx pgx.Tx, level int16, start int64) (part int32, err error) {
	width := int64(Window)
	if level == LevelDay {
		width = Day
	}
	if err := tx.QueryRow(ctx, schema.PartInsertSealed, level, floor(start, width)).Scan(&part); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, schema.Expand(schema.PartCreate, "part", int64(part))); err != nil {
		return 0, fmt.Errorf("creating part %d: %w", part, err)
	}
	return part, nil
}

// Packer packs the samples of series that come in the order of their labels, in which those of a target are far apart: it remembers
// the timestamps of many targets, so that rows can share them.
type Packer struct{ times map[scrapes]*timesOf }

// scrapes tells the timestamps of targets apart, nearly always.
type scrapes struct {
	first, last int64
	n           int
}

// maxScrapes bounds what a Packer remembers: a day of scrapes takes some 50 KB.
const maxScrapes = 256

// Encode is like the function Encode; the rows may share timestamps, and are written to one part with a Writer.
func (p *Packer) Encode(id uint64, version int32, set *series.Set) ([]Row, error) {
	n := len(set.T)
	if n == 0 {
		return encode(nil, id, version, set, nil)
	}
	key := scrapes{set.T[0], set.T[n-1], n}
	times := p.times[key]
	if times == nil {
		if p.times == nil || len(p.times) >= maxScrapes {
			p.times = map[scrapes]*timesOf{}
		}
		times = &timesOf{}
		p.times[key] = times
	}
	return encode(nil, id, version, set, times)
}

// DayEnd returns the end (ms, exclusive) of the day that t (ms) lies in.
func DayEnd(t int64) int64 { return floor(t, Day) + Day }
