package codectest

import (
	"math"
	"math/rand/v2"
)

const seconds = Interval / 1000.0

func generate(n int, next func() float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = next()
	}
	return v
}

func always(first func(r *rand.Rand) float64) func(r *rand.Rand, n int) []float64 {
	return func(r *rand.Rand, n int) []float64 {
		x := first(r)
		return generate(n, func() float64 { return x })
	}
}

// up is 1 with a rare failed scrape.
func up(r *rand.Rand, n int) []float64 {
	return generate(n, func() float64 {
		if r.Float64() < 0.0005 {
			return 0
		}
		return 1
	})
}

// mostlyConstant is a number of things that comes and goes.
func mostlyConstant(r *rand.Rand, n int) []float64 {
	x := float64(r.IntN(100))
	return generate(n, func() float64 {
		if r.Float64() < 0.01 {
			x = math.Max(0, x+float64(r.IntN(7)-3))
		}
		return x
	})
}

// counter counts events at a mean rate per second. The process that counts is
// restarted now and then.
func counter(r *rand.Rand, n int, rate float64) []float64 {
	l := newLevel(r)
	x := math.Floor(rate * math.Exp(6+8*r.Float64()))
	return generate(n, func() float64 {
		x += float64(poisson(r, rate*seconds*l.next()))
		if r.Float64() < 0.0002 {
			x = 0
		}
		return x
	})
}

// bytesCounter counts bytes of packets of some hundred bytes.
func bytesCounter(r *rand.Rand, n int) []float64 {
	l := newLevel(r)
	packets := math.Exp(9 * r.Float64())
	size := 60 + 1000*r.Float64()
	x := math.Floor(1e5 * packets * size * r.Float64())
	return generate(n, func() float64 {
		p := float64(poisson(r, packets*seconds*l.next()))
		x += math.Max(0, math.Round(p*size+math.Sqrt(p)*200*r.NormFloat64()))
		return x
	})
}

// cpuSeconds counts ticks of 10 ms, as node_cpu_seconds_total does.
func cpuSeconds(r *rand.Rand, n int) []float64 {
	l := newLevel(r)
	share := math.Exp(-6 * r.Float64())
	ticks := math.Floor(1e8 * share * r.Float64())
	return generate(n, func() float64 {
		mean := math.Min(1, share*l.next()) * seconds * 100
		ticks += float64(min(poisson(r, mean), seconds*100))
		return ticks / 100
	})
}

// containerCPUSeconds counts microseconds, as cgroups v2 do.
func containerCPUSeconds(r *rand.Rand, n int) []float64 {
	l := newLevel(r)
	share := math.Exp(-6 * r.Float64())
	us := math.Floor(1e11 * share * r.Float64())
	return generate(n, func() float64 {
		us += math.Round(math.Max(0, share*l.next()*seconds*1e6*(1+0.05*r.NormFloat64())))
		return us * 1000 / 1e9
	})
}

// durationSum adds up durations in seconds, one by one, as the sum of a
// histogram does, so that its rounding errors add up too.
func durationSum(r *rand.Rand, n int) []float64 {
	l := newLevel(r)
	rate := math.Exp(6*r.Float64() - 3)
	mean := math.Exp(-7 * r.Float64())
	x := 0.0
	return generate(n, func() float64 {
		for range poisson(r, rate*seconds*l.next()) {
			x += math.Round(r.ExpFloat64()*mean*1e9) / 1e9
		}
		return x
	})
}

// pages is memory in bytes, in whole pages of 4 KiB.
func pages(r *rand.Rand, n int) []float64 {
	x := float64(int(1) << (8 + r.IntN(14)))
	step := 1 + x*0.002*r.Float64()
	still := r.Float64()
	return generate(n, func() float64 {
		if r.Float64() > still {
			x = math.Max(0, math.Round(x+step*r.NormFloat64()))
		}
		return x * 4096
	})
}

// heap is the allocated heap of a Go program: it grows until it is collected.
func heap(r *rand.Rand, n int) []float64 {
	live := 1e6 * math.Exp(5*r.Float64())
	x := live
	return generate(n, func() float64 {
		x += live * 0.2 * r.ExpFloat64()
		if x > 2*live {
			x = live * (1 + 0.1*r.Float64())
		}
		return math.Floor(x/8) * 8
	})
}

// smallGauge is a number such as that of goroutines or connections.
func smallGauge(r *rand.Rand, n int) []float64 {
	mean := 2 + 60*r.Float64()
	l := newLevel(r)
	return generate(n, func() float64 { return float64(poisson(r, mean*l.next())) })
}

// load is a load average, with two decimals.
func load(r *rand.Rand, n int) []float64 {
	x, mean := 1.0, 8*r.Float64()
	decay := math.Exp(-seconds / 60)
	return generate(n, func() float64 {
		x = x*decay + (1-decay)*float64(poisson(r, mean))
		return math.Round(x*100) / 100
	})
}

// temperature is in degrees Celsius, with one decimal.
func temperature(r *rand.Rand, n int) []float64 {
	x, mean := 45.0, 40+20*r.Float64()
	return generate(n, func() float64 {
		x += 0.05*(mean-x) + 0.4*r.NormFloat64()
		return math.Round(x*10) / 10
	})
}

// ratio is a quotient at full precision.
func ratio(r *rand.Rand, n int) []float64 {
	x := 0.5
	return generate(n, func() float64 {
		x = 0.95*x + 0.05*r.Float64()
		return x
	})
}

// unixTime is the clock of a machine in seconds, at full precision.
func unixTime(r *rand.Rand, n int) []float64 {
	i := 0
	return generate(n, func() float64 {
		i++
		ns := 1_700_000_000_000_000_000 + int64(i)*Interval*1_000_000 + r.Int64N(4_000_000)
		return float64(ns) / 1e9
	})
}
