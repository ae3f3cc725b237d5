package importer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/series"
)

// OpenMetrics imports OpenMetrics text with timestamps, of a file or from stdin if the name is "-". The series of a family must stand
// together, as the format has it; the samples may come in any order of time, and of two with the same timestamp the last
// counts. Of a file it is noted how far it came; from stdin all is read again.
func (im *Importer) OpenMetrics(ctx context.Context, name string) error {
	if name == "-" {
		return im.openMetrics(ctx, os.Stdin, im.source("stdin"), storage.Mark{}, false)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return im.openMetrics(ctx, f, im.source("stdin"), storage.Mark{}, false)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	im.Progress.Expect(info.Size())
	source := im.source("openmetrics", hex.EncodeToString(h.Sum(nil)), fmt.Sprint(im.asked.Mint, " ", im.asked.Maxt))
	marks, err := im.marks(ctx, source)
	if err != nil {
		return err
	}
	if marks[0].Finished {
		im.Progress.Skip(info.Size())
		return nil
	}
	if err := im.openMetrics(ctx, f, source, marks[0], true); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// place is how far a text was read.
type place struct {
	Offset int64  // bytes
	Line   int64  // lines before it
	Type   string // the last # TYPE line, which decides how labels are spelled
}

// pieceBytes is how much text is parsed at a time. A line must not be longer.
const pieceBytes = 4 << 20

const endOfText = "# EOF"

func (im *Importer) openMetrics(ctx context.Context, in io.Reader, source storage.Source, mark storage.Mark, resumable bool) error {
	var at place
	if mark.Cursor != "" {
		if err := json.Unmarshal([]byte(mark.Cursor), &at); err != nil {
			return fmt.Errorf("how far an earlier import came cannot be read: %q; --again begins at the start", mark.Cursor)
		}
	}
	if f, ok := in.(io.Seeker); ok && resumable {
		if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
			return err
		}
		im.Progress.Skip(at.Offset)
	}
	c := newCommitter(ctx, im, source, resumable)
	defer c.wait()
	text := &text{im: im, to: map[string]*textSeries{}}
	buf := make([]byte, 0, pieceBytes)
	for ended := false; !ended; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		cut := bytes.LastIndexByte(buf, '\n') + 1
		if last {
			cut = len(buf)
		}
		if cut == 0 {
			return fmt.Errorf("line %d is longer than %d bytes", at.Line+1, pieceBytes)
		}
		piece := buf[:cut]
		end, rest := eof(piece)
		if end >= 0 {
			if len(bytes.TrimSpace(rest)) > 0 {
				return fmt.Errorf("there is text after %s, line %d", endOfText, at.Line+int64(bytes.Count(piece[:end], []byte("\n")))+1)
			}
			piece, ended = piece[:end], true
		} else if last {
			return c.fail(fmt.Errorf("the text ends at line %d without %s: it is cut off", at.Line+int64(bytes.Count(piece, []byte("\n"))), endOfText))
		}
		if err := text.parse(piece, at); err != nil {
			return c.fail(err)
		}
		im.Progress.Add(int64(cut))
		at.Offset += int64(cut)
		at.Line += int64(bytes.Count(piece, []byte("\n")))
		at.Type = lastType(piece, at.Type)
		buf = append(buf[:0], buf[cut:]...)
		if text.samples >= textSamples || len(text.to) >= textSeriesMax || ended {
			if err := c.commit(text.take(), at, ended); err != nil {
				return err
			}
		}
	}
	return c.wait()
}

// eof finds the line that ends the text.
func eof(piece []byte) (at int, rest []byte) {
	at = bytes.Index(piece, []byte("\n"+endOfText)) + 1
	if bytes.HasPrefix(piece, []byte(endOfText)) {
		at = 0
	} else if at == 0 {
		return -1, nil
	}
	return at, piece[at+len(endOfText):]
}

// lastType returns the last # TYPE line of a piece.
func lastType(piece []byte, before string) string {
	at := bytes.LastIndex(piece, []byte("\n# TYPE "))
	switch {
	case at >= 0:
		at++
	case bytes.HasPrefix(piece, []byte("# TYPE ")):
		at = 0
	default:
		return before
	}
	line, _, _ := bytes.Cut(piece[at:], []byte("\n"))
	return string(line) + "\n"
}

// The bounds of what is gathered of a text before it is packed.
const (
	textSamples   = 2 << 20
	textSeriesMax = 200_000
)

// text gathers samples by series.
type text struct {
	im      *Importer
	to      map[string]*textSeries // by the bytes that name the series
	samples int
}

type textSeries struct {
	labels  labels.Labels
	samples []textSample
	late    bool
}

type textSample struct {
	t int64
	v float64
}

func (x *text) take() map[string]*textSeries {
	out := x.to
	x.to, x.samples = map[string]*textSeries{}, 0
	return out
}

// parse reads whole lines.
func (x *text) parse(piece []byte, at place) error {
	all := slices.Concat([]byte(at.Type), piece, []byte(endOfText+"\n"))
	p := textparse.NewOpenMetricsParser(all, labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badLine(piece, at, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		name, t, v := p.Series()
		s := x.to[string(name)]
		if s == nil {
			s = &textSeries{}
			p.Labels(&s.labels)
			if t != nil {
				x.to[string(name)] = s
			}
		}
		if t == nil {
			return fmt.Errorf("%s has no timestamp, and an import needs one: from line %d on", s.labels, at.Line+1)
		}
		if *t < x.im.asked.Mint || *t > x.im.asked.Maxt || !x.im.wanted(s.labels) {
			continue
		}
		if n := len(s.samples); n > 0 && *t <= s.samples[n-1].t {
			s.late = true
		}
		s.samples = append(s.samples, textSample{*t, v})
		x.samples++
	}
}

// badLine finds the line that the parser stumbles over, which does not say.
func badLine(piece []byte, at place, err error) error {
	n := at.Line
	for line := range bytes.Lines(piece) {
		n++
		p := textparse.NewOpenMetricsParser(slices.Concat(line, []byte(endOfText+"\n")), labels.NewSymbolTable())
		for {
			_, bad := p.Next()
			if errors.Is(bad, io.EOF) {
				break
			}
			if bad != nil {
				return fmt.Errorf("line %d: %w: %q", n, bad, shorten(bytes.TrimSpace(line)))
			}
		}
	}
	return fmt.Errorf("behind line %d: %w", at.Line, err)
}

func shorten(b []byte) []byte {
	const shown = 200
	if len(b) > shown {
		return append(slices.Clone(b[:shown]), "…"...)
	}
	return b
}

// wanted tells whether a series matches what the options ask for.
func (im *Importer) wanted(lset labels.Labels) bool {
	return len(im.Matchers) == 0 || slices.ContainsFunc(im.Matchers, func(ms []*labels.Matcher) bool {
		return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(lset.Get(m.Name)) })
	})
}

// committer packs and commits what was gathered, while the next is gathered.
type committer struct {
	ctx     context.Context
	im      *Importer
	source  storage.Source
	note    bool
	running chan error // of the commit under way; nil if there is none
}

func newCommitter(ctx context.Context, im *Importer, source storage.Source, note bool) *committer {
	return &committer{ctx: ctx, im: im, source: source, note: note}
}

// commit waits for the one before, and begins.
func (c *committer) commit(all map[string]*textSeries, at place, finished bool) error {
	if err := c.wait(); err != nil {
		return err
	}
	done := make(chan error, 1)
	c.running = done
	go func() { done <- c.write(all, at, finished) }()
	return nil
}

// wait returns the error of the commit under way.
func (c *committer) wait() error {
	if c.running == nil {
		return nil
	}
	err := <-c.running
	c.running = nil
	return err
}

// fail waits for the commit under way, since what was read before an error counts.
func (c *committer) fail(err error) error { return errors.Join(c.wait(), err) }

func (c *committer) write(all map[string]*textSeries, at place, finished bool) error {
	batch := c.im.to.NewBatch(false)
	builder := labels.NewBuilder(labels.EmptyLabels())
	var set series.Set
	for _, s := range all {
		s.fill(&set)
		if len(set.T) == 0 {
			continue
		}
		if err := c.im.add(batch, c.im.external(builder, s.labels), set.T[len(set.T)-1], &set); err != nil {
			return err
		}
	}
	cursor, err := json.Marshal(at)
	if err != nil {
		return err
	}
	mark := storage.Mark{Cursor: string(cursor), Finished: finished}
	if !c.note {
		mark = storage.Mark{}
	}
	return batch.Commit(c.ctx, c.source, mark)
}

// fill sorts the samples, of which the last with a timestamp counts.
func (s *textSeries) fill(set *series.Set) {
	set.Reset()
	if s.late {
		slices.SortStableFunc(s.samples, func(a, b textSample) int {
			switch {
			case a.t < b.t:
				return -1
			case a.t > b.t:
				return 1
			}
			return 0
		})
	}
	for i, x := range s.samples {
		if i+1 < len(s.samples) && s.samples[i+1].t == x.t {
			continue
		}
		set.T, set.V = append(set.T, x.t), append(set.V, x.v)
	}
}
