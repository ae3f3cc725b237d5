package storage

import (
	"context"
	"time"

	"github.com/promkeep/promkeep/schema"
)

const (
	importLook = 5 * time.Second // how often the leader looks for imports
	importEach = time.Minute     // how often it follows one that goes on
)

// imported is up to where the leader has followed imports. Guarded by DB.flushMu.
type imported struct {
	followed int64 // number of the last import's commit that memory agrees with
	seen     int64 // at the last look
	at       time.Time
}

// lookForImports follows what was imported beside this process: at once if no more is coming, else every importEach.
func (db *DB) lookForImports(ctx context.Context) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	return db.followImports(ctx, false)
}

// followImports lets memory agree with what was imported: ranges in which there is something new are answered from the database from
// now on, and series that are in memory may have begun earlier. The caller holds flushMu.
func (db *DB) followImports(ctx context.Context, now bool) error {
	var imports, seen, until int64
	if err := db.pool.QueryRow(ctx, schema.Imports).Scan(&imports, &seen, &until); err != nil {
		return err
	}
	i := &db.imported
	goesOn := imports != i.seen
	i.seen = imports
	if imports == i.followed || (goesOn && !now && time.Since(i.at) < importEach) {
		return nil
	}
	err := db.catalogue.ActiveStarted(ctx, func(id uint64, started int32) {
		if s := db.head.ByID(id); s != nil && started < s.Started() {
			s.SetStarted(started)
		}
	})
	if err != nil {
		return err
	}
	db.head.Evict(until + 1)
	if _, err := db.pool.Exec(ctx, schema.ImportsSeen, db.log.Epoch(), imports); err != nil {
		return err
	}
	i.followed, i.at = imports, time.Now()
	return nil
}
