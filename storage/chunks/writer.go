package chunks

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgcopy"
)

// Writer streams rows into a table, in bundles. Rows should come in order of series IDs.
type Writer struct {
	buf     []byte
	pipe    *io.PipeWriter
	done    chan error
	bundles map[int32]*bundle // by part

	Rows, Samples, Bytes int64 // written so far; bytes of row data
}

const writerBuffer = 128 << 10

// WriteRecent streams rows into a part, within tx. fn must not use tx.
func WriteRecent(ctx context.Context, tx pgx.Tx, part int32, fn func(*Writer) error) (*Writer, error) {
	return stream(ctx, tx, schema.Expand(schema.CopyRecent, "part", int64(part)), fn)
}

func stream(ctx context.Context, tx pgx.Tx, sql string, fn func(*Writer) error) (*Writer, error) {
	r, pipe := io.Pipe()
	w := &Writer{pipe: pipe, done: make(chan error, 1), bundles: map[int32]*bundle{}, buf: append(make([]byte, 0, writerBuffer+4096), pgcopy.Header...)}
	go func() {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, r, sql)
		r.CloseWithError(errStopped(err))
		w.done <- err
	}()
	err := fn(w)
	for part, b := range w.bundles {
		if err == nil {
			err = w.close(part, b, len(b.rows))
		}
	}
	if err == nil {
		w.buf = append(w.buf, pgcopy.Trailer...)
		err = w.flush()
	}
	pipe.CloseWithError(err)
	if copyErr := <-w.done; copyErr != nil && (err == nil || err == io.ErrClosedPipe) {
		err = copyErr
	}
	return w, err
}

func errStopped(err error) error {
	if err == nil {
		return io.ErrClosedPipe
	}
	return err
}

// Write adds a row to the part with the ID, or to the long-term store if part is negative. r.Data must stay as it is until the
// Writer is done.
func (w *Writer) Write(part int32, r Row) error {
	w.Rows++
	w.Samples += int64(r.N)
	w.Bytes += int64(len(r.Data))
	b := w.bundles[part]
	if b == nil {
		b = &bundle{refer: part < 0}
		w.bundles[part] = b
	}
	for len(b.rows) > 0 {
		sameDay := part >= 0 || floor(r.Start, Day) == floor(b.rows[0].Start, Day) // in the long-term store no row crosses a day
		if sameDay && b.fits(r) {
			break
		}
		k := len(b.rows)
		if sameDay && b.follows(r) {
			k = b.cut() // the rest goes with r
		}
		if err := w.close(part, b, k); err != nil {
			return err
		}
	}
	b.add(r)
	return nil
}

// writeRaw adds a row of a table as it is: IDs of its series go from r's up to last.
func (w *Writer) writeRaw(part int32, r Row, last int64) error {
	w.buf = appendTuple(w.buf, part, r, last, 1, func(b []byte) []byte { return append(b, r.Data...) })
	return w.written()
}

// writeWhole adds a bundle as it is.
func (w *Writer) writeWhole(part int32, r wide) error {
	if b := w.bundles[part]; b != nil {
		// Of a bundle that went on behind it, IDs would go from before it to after it.
		if err := w.close(part, b, len(b.rows)); err != nil {
			return err
		}
	}
	w.Rows += int64(r.members)
	w.Samples += int64(r.N)
	w.Bytes += int64(len(r.Data))
	w.buf = appendTuple(w.buf, part, r.Row, r.last, r.members, func(b []byte) []byte { return append(b, r.Data...) })
	return w.written()
}

// close writes the first k rows that a bundle has gathered.
func (w *Writer) close(part int32, b *bundle, k int) error {
	if k == 0 {
		return nil
	}
	last := int64(b.rows[k-1].SeriesID)
	if first := b.rows[0]; k == 1 && first.Times == nil {
		w.buf = appendTuple(w.buf, part, first, last, 1, func(out []byte) []byte { return append(out, first.Data...) })
	} else {
		w.buf = appendTuple(w.buf, part, b.head(k), last, int32(k), func(out []byte) []byte { return b.appendTo(out, k) })
	}
	b.drop(k)
	return w.written()
}

func (w *Writer) written() error {
	if len(w.buf) < writerBuffer {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	_, err := w.pipe.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}
