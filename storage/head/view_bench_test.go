package head

import "testing"

// BenchmarkView takes what is cached of a series: two hours, in twelve rows of ten minutes.
func BenchmarkView(b *testing.B) {
	h := New()
	s := h.Tenant(1).Add(key(1), 1, lset(1), 0)
	for i := range int64(12) {
		h.AddRow(s, Row{Start: i * 600_000, End: i*600_000 + 585_000, N: 40, Data: make([]byte, 40)})
	}
	b.ReportAllocs()
	for b.Loop() {
		s.View(3_600_000, 7_200_000)
	}
}
