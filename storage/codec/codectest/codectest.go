package codectest

import (
	"math"
	"math/rand/v2"
)

// Interval is the scrape interval of all series, ms.
const Interval = 15_000

// Kind is one way in which the values of a series behave.
type Kind struct {
	Name string
	// Weight is the number of series of this kind among those of [Corpus],
	// out of the sum of all weights.
	Weight int

	values func(r *rand.Rand, n int) []float64
}

// Kinds returns all kinds. The weights follow what a scrape of node_exporter,
// cAdvisor and a Go program exposes: about half of all series never change.
func Kinds() []Kind {
	return []Kind{
		{"zero", 22, always(func(*rand.Rand) float64 { return 0 })},
		{"constant", 16, always(func(r *rand.Rand) float64 { return float64(r.Int64N(1 << (1 + r.IntN(40)))) })},
		{"up", 2, up},
		{"mostly_constant", 6, mostlyConstant},
		{"rarely_changing_counter", 8, func(r *rand.Rand, n int) []float64 { return counter(r, n, 0.003) }},
		{"histogram_bucket", 14, func(r *rand.Rand, n int) []float64 { return counter(r, n, math.Exp(r.Float64()*8-4)) }},
		{"histogram_sum", 2, durationSum},
		{"counter_events", 10, func(r *rand.Rand, n int) []float64 { return counter(r, n, math.Exp(r.Float64()*9)) }},
		{"counter_bytes", 4, bytesCounter},
		{"cpu_seconds", 5, cpuSeconds},
		{"container_cpu_seconds", 2, containerCPUSeconds},
		{"gauge_pages", 5, pages},
		{"gauge_heap", 2, heap},
		{"gauge_small", 3, smallGauge},
		{"load", 1, load},
		{"temperature", 1, temperature},
		{"ratio", 2, ratio},
		{"unix_time", 1, unixTime},
	}
}

// Values returns n values of a series of this kind; different seeds give
// different series.
func (k Kind) Values(seed uint64, n int) []float64 { return k.values(rng(seed, 1), n) }

// Timestamps returns n timestamps in ms. Like those of a Prometheus server,
// which corrects its scrape times by up to 2 ms, most are exactly one interval
// apart; on busy servers some, or all, are a few ms off.
func Timestamps(seed uint64, n int) []int64 {
	r := rng(seed, 2)
	late := 0.0 // share of scrapes that are off
	switch p := r.Float64(); {
	case p > 0.95:
		late = 1
	case p > 0.7:
		late = 0.05
	}
	t := make([]int64, n)
	at := int64(1_700_000_000_000) + r.Int64N(Interval)
	for i := range t {
		t[i] = at
		at += Interval
		if r.Float64() < late {
			t[i] += r.Int64N(21) - 10
		}
	}
	return t
}

// Series is one series.
type Series struct {
	Kind string
	T    []int64   // ms
	V    []float64 // as many as timestamps
}

// Corpus returns series of n samples each, of all kinds in proportion to
// their weights and well mixed: any run of some hundred of them is typical.
func Corpus(seed uint64, series, n int) []Series {
	kinds := Kinds()
	var deck []Kind
	for _, k := range kinds {
		for range k.Weight {
			deck = append(deck, k)
		}
	}
	r := rng(seed, 3)
	out := make([]Series, series)
	for i := range out {
		if i%len(deck) == 0 {
			r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		k := deck[i%len(deck)]
		s := r.Uint64()
		out[i] = Series{Kind: k.Name, T: Timestamps(s, n), V: k.Values(s, n)}
	}
	return out
}

func rng(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// level is a slowly wandering factor around 1, such as the load of a machine.
type level struct {
	r     *rand.Rand
	x     float64
	width float64
}

func newLevel(r *rand.Rand) *level { return &level{r: r, width: 0.05 + 0.5*r.Float64()} }

func (l *level) next() float64 {
	l.x = 0.98*l.x + 0.2*l.r.NormFloat64()
	return math.Exp(l.x * l.width)
}

// poisson returns the number of events when mean are expected.
func poisson(r *rand.Rand, mean float64) int64 {
	if mean > 50 {
		return max(0, int64(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p := int64(0), math.Exp(-mean)
	for sum := r.Float64(); sum > p; sum *= r.Float64() {
		n++
	}
	return n
}
