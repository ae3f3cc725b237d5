package catalogue

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgcopy"
)

// wanted is what there is to look up or create, each label set and each series once.
type wanted struct {
	sets    []wantedSet
	asOf    int64          // sets are new as said if only this process has changed the catalogue since this version
	series  []wantedSeries // in order of metrics
	history bool           // see Import
}

type wantedSet struct {
	pairs   []int32
	metrics []int32 // of its series
	isNew   bool    // it need not be looked up
}

type wantedSeries struct {
	metric, set    int32 // set is a place in wanted.sets
	started, ended int32 // hours since 1970
}

// foundSets are the IDs of label sets. Those from first on, of which there are missing many, are to be created.
type foundSets struct {
	ids            []int64
	first, missing int64
}

func (f foundSets) isNew(set int32) bool { return f.missing > 0 && f.ids[set] >= f.first }

// foundSeries is a series that was there, or is created.
type foundSeries struct {
	id      int64
	isNew   bool
	started int32
	ended   int32 // before it became active again; Unknown if it was active or is new
}

// write looks up and creates what is wanted in one transaction. version is the catalogue's after it.
func (c *Catalogue) write(ctx context.Context, retired int64, w *wanted) (version int64, found []foundSeries, err error) {
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) (err error) {
		var sets foundSets
		if version, sets, found, err = w.find(ctx, tx, retired); err != nil {
			return err
		}
		return w.add(ctx, tx, sets, found)
	})
	return version, found, err
}

// find looks up what may be there, and gives IDs to what is not.
func (w *wanted) find(ctx context.Context, tx pgx.Tx, retired int64) (version int64, sets foundSets, found []foundSeries, err error) {
	var (
		places   = make([]int32, len(w.sets)) // of each set in setPairs, from 1; 0 if it is new
		setPairs = []string{}
		certain  = 0 // sets that are new

		asked                 []int32 // places in w.series
		metrics, setOf, hours []int32
		ends                  []int32 // NULL but for history
		setIDs, ids           []int64
		started, ended        []int32
	)
	for i := range w.sets {
		if w.sets[i].isNew {
			certain++
			continue
		}
		setPairs = append(setPairs, array(w.sets[i].pairs))
		places[i] = int32(len(setPairs))
	}
	for i := range w.series {
		s := &w.series[i]
		if places[s.set] == 0 {
			continue
		}
		asked = append(asked, int32(i))
		metrics, setOf, hours = append(metrics, s.metric), append(setOf, places[s.set]), append(hours, s.started)
		if w.history {
			ends = append(ends, s.ended)
		}
	}
	if err := tx.QueryRow(ctx, schema.SeriesFind, metrics, setOf, setPairs, hours, ends, certain, retired).
		Scan(&version, &setIDs, &sets.first, &ids, &started, &ended); err != nil {
		return 0, sets, nil, err
	}
	if len(setIDs) != len(setPairs) || len(ids) != len(asked) || len(started) != len(asked) || len(ended) != len(asked) {
		return 0, sets, nil, fmt.Errorf("the catalogue returned %d label sets of %d, and %d series of %d", len(setIDs), len(setPairs), len(ids), len(asked))
	}
	if certain > 0 && version != w.asOf+1 {
		return 0, sets, nil, errRemoved // the pairs are known now, so the next try asks for these sets as well
	}
	sets.ids = make([]int64, len(w.sets))
	for i, place := range places {
		if place > 0 {
			sets.ids[i] = setIDs[place-1]
		}
		if sets.ids[i] == 0 {
			sets.ids[i] = sets.first + sets.missing
			sets.missing++
		}
	}
	found = make([]foundSeries, len(w.series))
	for i, at := range asked {
		found[at] = foundSeries{id: ids[i], started: started[i], ended: ended[i]}
	}
	for i := range found {
		if f, s := &found[i], &w.series[i]; f.id == 0 {
			*f = foundSeries{id: int64(s.metric)<<seriesBits | sets.ids[s.set], isNew: true, started: s.started, ended: Unknown}
		}
	}
	return version, sets, found, nil
}

// add writes the sets and series that are new.
func (w *wanted) add(ctx context.Context, tx pgx.Tx, sets foundSets, found []foundSeries) error {
	if sets.missing > 0 {
		rows := append(make([]byte, 0, 256*sets.missing), pgcopy.Header...)
		for i := range w.sets {
			if !sets.isNew(int32(i)) {
				continue
			}
			rows = pgcopy.AppendRow(rows, 3)
			rows = pgcopy.AppendInt8(rows, sets.ids[i])
			rows = pgcopy.AppendInt4s(rows, w.sets[i].pairs)
			rows = pgcopy.AppendInt4s(rows, w.sets[i].metrics)
		}
		if err := copyRows(ctx, tx, schema.CopyLabelSet, rows); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, schema.LabelSetIndexed); err != nil {
			return err
		}
	}
	rows := append(make([]byte, 0, 32*len(found)), pgcopy.Header...)
	none := len(rows)
	for i := range found {
		f, s := &found[i], &w.series[i]
		if !f.isNew {
			continue
		}
		rows = pgcopy.AppendRow(rows, 4)
		rows = pgcopy.AppendInt8(rows, f.id)
		rows = pgcopy.AppendInt4(rows, f.started)
		if w.history {
			rows = pgcopy.AppendInt4(rows, s.ended)
		} else {
			rows = pgcopy.AppendNull(rows)
		}
		rows = pgcopy.AppendBool(rows, !sets.isNew(s.set))
	}
	if len(rows) == none {
		return nil
	}
	return copyRows(ctx, tx, schema.CopySeries, rows)
}

func copyRows(ctx context.Context, tx pgx.Tx, sql string, rows []byte) error {
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(append(rows, pgcopy.Trailer...)), sql)
	return err
}

// array returns an array as PostgreSQL writes it.
func array(all []int32) string {
	b := make([]byte, 0, 8*len(all)+2)
	b = append(b, '{')
	for i, v := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(v), 10)
	}
	return string(append(b, '}'))
}
