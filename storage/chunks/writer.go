package chunks

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/promkeep/promkeep/schema"
)

// Writer streams rows into a table. Rows are best written in order of series IDs.
type Writer struct {
	buf  []byte
	pipe *io.PipeWriter
	done chan error

	Rows, Samples, Bytes int64 // written so far; bytes of row data
}

const writerBuffer = 128 << 10

// WriteRecent streams rows into a part, within tx. fn must not use tx.
func WriteRecent(ctx context.Context, tx pgx.Tx, part int32, fn func(*Writer) error) (*Writer, error) {
	return stream(ctx, tx, schema.Expand(schema.CopyRecent, "part", int64(part)), fn)
}

func stream(ctx context.Context, tx pgx.Tx, sql string, fn func(*Writer) error) (*Writer, error) {
	r, pipe := io.Pipe()
	w := &Writer{pipe: pipe, done: make(chan error, 1), buf: append(make([]byte, 0, writerBuffer+4096), copyHeader...)}
	go func() {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, r, sql)
		r.CloseWithError(errStopped(err))
		w.done <- err
	}()
	err := fn(w)
	if err == nil {
		w.buf = append(w.buf, 0xff, 0xff)
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

// Write adds a row to the part with the ID, or to the long-term store if part is negative. It keeps nothing of r.
func (w *Writer) Write(part int32, r Row) error {
	w.buf = appendCopyRow(w.buf, part, r)
	w.Rows++
	w.Samples += int64(r.N)
	w.Bytes += int64(len(r.Data))
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
