package adapter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/promkeep/promkeep/adapter/wire"
)

// refusal says why a series, a sample or an exemplar is not taken.
type refusal struct {
	why  reason
	text string
}

func refuse(why reason, format string, args ...any) *refusal {
	return &refusal{why, fmt.Sprintf(format, args...)}
}

const metricName = "__name__"

var errDropped = errors.New("dropped by relabelling")

// normalise makes a label set of labels as sent: without empty values, which mean that a label is not there, and sorted. It
// works within ls.
func (l *Limits) normalise(b *labels.ScratchBuilder, ls []wire.Label) (labels.Labels, *refusal) {
	ls, bad := l.check(ls)
	if bad != nil {
		return labels.EmptyLabels(), bad
	}
	b.Reset()
	for _, p := range ls {
		if labelsAreCopied {
			b.Add(view(p.Name), view(p.Value))
		} else {
			b.Add(string(p.Name), string(p.Value))
		}
	}
	return b.Labels(), nil
}

// labelsAreCopied tells whether a label set has bytes of its own. With some builds of package labels it refers to the strings that it was
// made of, which must be new then.
var labelsAreCopied = func() bool {
	name, value := []byte("name"), []byte("value")
	b := labels.NewScratchBuilder(1)
	b.Add(view(name), view(value))
	lset := b.Labels()
	name[0], value[0] = 'g', 'V'
	copied := lset.Get("name") == "value"
	name[0], value[0] = 'n', 'v' // with one build strings are interned: no wrong one must stay
	return copied
}()

// plain tells whether all bytes are ASCII and none is NUL, as nearly always.
func plain(b []byte) bool {
	const low, high = 0x0101010101010101, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		// A byte that is zero borrows into its highest bit.
		if x := binary.LittleEndian.Uint64(b); (x|(x-low))&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c-1 >= 0x7f {
			return false
		}
	}
	return true
}

// check drops labels with empty values, sorts the rest, and finds what is wrong with them.
func (l *Limits) check(ls []wire.Label) ([]wire.Label, *refusal) {
	kept := ls[:0]
	for _, p := range ls {
		if len(p.Name) == 0 {
			return nil, refuse(reasonEmptyLabelName, "a label name is empty")
		}
		if len(p.Name) > l.LabelNameBytes {
			return nil, refuse(reasonLabelNameTooLong, "the label name %s has %d bytes, the limit is %d", quote(p.Name), len(p.Name), l.LabelNameBytes)
		}
		if len(p.Value) > l.LabelValueBytes {
			return nil, refuse(reasonLabelValueTooLong, "the value of label %s has %d bytes, the limit is %d", quote(p.Name), len(p.Value), l.LabelValueBytes)
		}
		if !plain(p.Name) || !plain(p.Value) {
			if !utf8.Valid(p.Name) {
				return nil, refuse(reasonInvalidUTF8, "the label name %s is not valid UTF-8", quote(p.Name))
			}
			if !utf8.Valid(p.Value) {
				return nil, refuse(reasonInvalidUTF8, "the value of label %s is not valid UTF-8", quote(p.Name))
			}
			if bytes.IndexByte(p.Name, 0) >= 0 || bytes.IndexByte(p.Value, 0) >= 0 {
				return nil, refuse(reasonNulByte, "the label %s has a NUL byte, which PostgreSQL cannot store", quote(p.Name))
			}
		}
		if len(p.Value) > 0 {
			kept = append(kept, p)
		}
	}
	byName := func(a, b wire.Label) int { return bytes.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(kept, byName) {
		slices.SortFunc(kept, byName)
	}
	for i := 1; i < len(kept); i++ {
		if bytes.Equal(kept[i-1].Name, kept[i].Name) {
			return nil, refuse(reasonDuplicateLabel, "the label %s appears more than once", quote(kept[i].Name))
		}
	}
	return kept, nil
}

// series makes the label set of a series: normalised, relabelled, and with a metric name. Of a series that relabelling drops the
// error is errDropped.
func (h *WriteHandler) series(rq *request, ls []wire.Label) (labels.Labels, *refusal, error) {
	lset, bad := h.opts.Limits.normalise(&rq.builder, ls)
	if bad == nil && len(h.opts.Relabel) > 0 {
		rq.relabel.Reset(lset)
		if !relabel.ProcessBuilder(&rq.relabel, h.opts.Relabel...) {
			return lset, nil, errDropped
		}
		lset = rq.relabel.Labels()
		bad = h.recheck(rq, lset)
	}
	if bad == nil && lset.Get(metricName) == "" {
		bad = refuse(reasonNoMetricName, "there is no metric name")
	}
	return lset, bad, nil
}

// recheck checks what relabelling made.
func (h *WriteHandler) recheck(rq *request, lset labels.Labels) *refusal {
	rq.labels = rq.labels[:0]
	lset.Range(func(l labels.Label) {
		rq.labels = append(rq.labels, wire.Label{Name: []byte(l.Name), Value: []byte(l.Value)})
	})
	if n := len(rq.labels); n > h.opts.Limits.Labels {
		return refuse(reasonTooManyLabels, "it has %d labels, the limit is %d", n, h.opts.Limits.Labels)
	}
	_, bad := h.opts.Limits.check(rq.labels)
	return bad
}

const (
	shownLabels = 16  // of a series, in a message
	shownBytes  = 400 // of a series, in a message
)

// describe names a series for people: its labels, shortened.
func describe(ls []wire.Label) string {
	var b []byte
	b = append(b, '{')
	for i, l := range ls {
		if i == shownLabels || len(b) > shownBytes {
			b = append(b, ", …"...)
			break
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		if isPlain(l.Name) {
			b = append(b, l.Name...)
		} else {
			b = append(b, quote(l.Name)...)
		}
		b = append(b, '=')
		b = append(b, quote(l.Value)...)
	}
	return string(append(b, '}'))
}

func isPlain(name []byte) bool {
	for _, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 100
}

func quote(b []byte) string {
	if len(b) > 100 {
		return strconv.Quote(string(b[:100])) + "…"
	}
	return strconv.Quote(string(b))
}
