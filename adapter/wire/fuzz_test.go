package wire

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// gogo's generated code takes some things that are not protobuf, or that this package refuses on purpose. These are all.
func refusedOnPurpose(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, fault := range []int{faultVarint, faultField, faultGroup, faultBuckets, faultRefs} {
		if e.Reason == faultText[-fault] {
			return true
		}
	}
	return strings.HasPrefix(e.Reason, "the first symbol") || strings.HasPrefix(e.Reason, "more than")
}

// allocations runs f and returns the bytes it allocated.
func allocations(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// drain reads everything as the adapter does, but keeps nothing.
func drain(d decoder, request []byte) {
	var ls []Label
	if d.Reset(request) != nil {
		return
	}
	for d.Next() {
		if d.SeriesErr() != nil || d.LabelCount() > 100 {
			continue
		}
		d.Key()
		ls, _ = d.Labels(ls[:0], 100)
		for d.NextSample() {
		}
		for d.NextHistogram() {
			d.Histogram()
		}
		for d.NextExemplar() {
			ls, _ = d.ExemplarLabels(ls[:0], 100)
		}
	}
	for d.NextMetadata() {
	}
}

// maxAllocation bounds what reading a request of n bytes may allocate: the tables of symbols, of 24 bytes for at least two of the
// request, grown by doubling; and buckets, of 8 or 12 bytes for at least one.
func maxAllocation(n int) uint64 { return uint64(n)*64 + 64<<10 }

func FuzzV1(f *testing.F) {
	for seed := range uint64(40) {
		r := newRandom(seed)
		request, err := r.requestV1().Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(request)
		f.Add(r.scramble(request, layoutV1))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		var d V1
		got, err := dumpDecoded(&d, request)
		var req prompb.WriteRequest
		switch wrong := req.Unmarshal(request); {
		case wrong != nil && err == nil:
			t.Fatalf("prompb refuses it: %v", wrong)
		case wrong == nil && err != nil && !refusedOnPurpose(err) && !overruns(request, layoutV1):
			t.Fatalf("prompb takes it, but: %v", err)
		case err == nil && got != dumpV1(&req):
			t.Fatalf("prompb reads\n%s\nbut the decoder\n%s", dumpV1(&req), got)
		}
		if n := allocations(func() { drain(&V1{}, request) }); n > maxAllocation(len(request)) {
			t.Fatalf("%d bytes allocated for a request of %d", n, len(request))
		}
	})
}

// overruns reports whether the last number of a packed field reaches past the end of the field. gogo's code takes it from the
// next field and goes on behind it, so what it reads from there on is of its own making.
func overruns(msg []byte, l *layout) bool {
	for i := 0; i < len(msg); {
		t, j := tag(msg, i)
		if j < 0 {
			return false
		}
		end := skip(msg, j, t)
		if end < 0 {
			return false
		}
		if t&7 == typeBytes {
			start, _ := span(msg, j)
			body := msg[start:end]
			switch number := t >> 3; {
			case l.messages[number] != nil:
				if overruns(body, l.messages[number]) {
					return true
				}
			case l.varints[number]:
				if len(body) > 0 && body[len(body)-1] >= 0x80 {
					return true
				}
			case l.doubles[number]:
				if len(body)%8 != 0 {
					return true
				}
			}
		}
		i = end
	}
	return false
}

func FuzzV2(f *testing.F) {
	for seed := range uint64(40) {
		r := newRandom(seed)
		request, err := r.requestV2().Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(request)
		f.Add(r.scramble(request, layoutV2))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		var d V2
		got, err := dumpDecoded(&d, request)
		var req writev2.Request
		switch wrong := req.Unmarshal(request); {
		case wrong != nil && err == nil:
			t.Fatalf("writev2 refuses it: %v", wrong)
		case wrong == nil && err != nil && !refusedOnPurpose(err) && !overruns(request, layoutV2):
			t.Fatalf("writev2 takes it, but: %v", err)
		case err == nil && got != dumpV2(&req):
			t.Fatalf("writev2 reads\n%s\nbut the decoder\n%s", dumpV2(&req), got)
		}
		if n := allocations(func() { drain(&V2{}, request) }); n > maxAllocation(len(request)) {
			t.Fatalf("%d bytes allocated for a request of %d", n, len(request))
		}
	})
}
