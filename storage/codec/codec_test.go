package codec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// kindsOfTime make n strictly increasing timestamps.
var kindsOfTime = map[string]func(r *rand.Rand, n int) []int64{
	"exact":     func(r *rand.Rand, n int) []int64 { return steps(1700000000000, n, func(int) int64 { return 15000 }) },
	"negative":  func(r *rand.Rand, n int) []int64 { return steps(-5_000_000, n, func(int) int64 { return 15000 }) },
	"jitter":    func(r *rand.Rand, n int) []int64 { return scattered(r, n, 1, 3) },
	"rarely":    func(r *rand.Rand, n int) []int64 { return scattered(r, n, 20, 30) },
	"irregular": func(r *rand.Rand, n int) []int64 { return steps(3, n, func(int) int64 { return 1 + r.Int64N(100000) }) },
	"gaps": func(r *rand.Rand, n int) []int64 {
		return steps(1700000000000, n, func(int) int64 {
			if r.IntN(50) == 0 {
				return 15000 * (2 + r.Int64N(10000))
			}
			return 15000
		})
	},
	"dense": func(r *rand.Rand, n int) []int64 { return steps(0, n, func(int) int64 { return 1 }) },
	"extremes": func(r *rand.Rand, n int) []int64 {
		t := steps(-int64(n/2), n, func(int) int64 { return 1 })
		t[0], t[n-1] = math.MinInt64, math.MaxInt64
		return t
	},
	"enormous": func(r *rand.Rand, n int) []int64 {
		return steps(math.MinInt64, n, func(int) int64 { return 1 + r.Int64N(math.MaxInt64/int64(n)) })
	},
}

func steps(first int64, n int, step func(i int) int64) []int64 {
	t := make([]int64, n)
	for i := range t {
		t[i] = first
		first += step(i)
	}
	return t
}

func scattered(r *rand.Rand, n, oneIn int, spread int64) []int64 {
	t := steps(1700000000000, n, func(int) int64 { return 15000 })
	for i := range t {
		if r.IntN(oneIn) == 0 {
			t[i] += r.Int64N(2*spread+1) - spread
		}
	}
	return t
}

var oddValues = []float64{
	0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(),
	math.Float64frombits(staleNaN), math.Float64frombits(0xfff0000000000001), math.Float64frombits(0x7ff00000deadbeef),
	math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64,
	1 << 53, 1<<53 - 1, 1<<53 + 2, -(1 << 53), 1 << 63, 1e300, 1e-300, 0.1, 1.0 / 3, 1e15, 1e16, 123456789.123456,
}

// wandering is a counter whose rate changes slowly.
func wandering(r *rand.Rand, n int, rate float64) []float64 {
	level, x := 0.0, 0.0
	return values(n, func(int) float64 {
		level = 0.98*level + 0.2*r.NormFloat64()
		mean := rate * math.Exp(0.3*level)
		x += math.Floor(math.Max(0, mean+0.2*mean*r.NormFloat64()))
		return x
	})
}

// kindsOfValue make n values.
var kindsOfValue = map[string]func(r *rand.Rand, n int) []float64{
	"constant":        func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return 1 }) },
	"constantFloat":   func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return math.Pi }) },
	"constantNaN":     func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return math.NaN() }) },
	"constantStale":   func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return stale }) },
	"line":            func(r *rand.Rand, n int) []float64 { return values(n, func(i int) float64 { return float64(7 * i) }) },
	"counter":         func(r *rand.Rand, n int) []float64 { return counter(r, n, 1, 1000) },
	"counterResets":   func(r *rand.Rand, n int) []float64 { return resets(counter(r, n, 1, 1000), 97) },
	"counterDecimals": func(r *rand.Rand, n int) []float64 { return counter(r, n, 100, 1500) },
	"counterBig":      func(r *rand.Rand, n int) []float64 { return counter(r, n, 1, 1<<40) },
	"wandering":       func(r *rand.Rand, n int) []float64 { return wandering(r, n, 100) },
	"wanderingWide":   func(r *rand.Rand, n int) []float64 { return wandering(r, n, 1e5) },
	"wanderingHuge":   func(r *rand.Rand, n int) []float64 { return wandering(r, n, 1<<44) },
	"wanderingOdd":    func(r *rand.Rand, n int) []float64 { return sprinkled(r, wandering(r, n, 300)) },
	"pages": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return 4096 * float64(r.IntN(1000)) })
	},
	"temperature": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return float64(r.IntN(200)-100) / 10 })
	},
	"toggling": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return float64(15 * r.IntN(2)) })
	},
	// From rare small steps to many: planes of every share of ones.
	"drifting": func(r *rand.Rand, n int) []float64 {
		return values(n, func(i int) float64 { return math.Floor(20 * math.Abs(r.NormFloat64()) * float64(i%480) / 480) })
	},
	"burst": func(r *rand.Rand, n int) []float64 {
		return values(n, func(i int) float64 { return float64(r.IntN(1 + i%960/800*(959-i%960)/20)) })
	},
	"uniform":  func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return r.Float64() }) },
	"negative": func(r *rand.Rand, n int) []float64 { return values(n, func(int) float64 { return r.NormFloat64() }) },
	"anyBits": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return math.Float64frombits(r.Uint64()) })
	},
	"fewBits": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return 1 + float64(r.IntN(64))/65536 })
	},
	"odd": func(r *rand.Rand, n int) []float64 {
		return values(n, func(int) float64 { return oddValues[r.IntN(len(oddValues))] })
	},
	"oddInCounter": func(r *rand.Rand, n int) []float64 { return sprinkled(r, counter(r, n, 1, 1000)) },
	"oddInFloats": func(r *rand.Rand, n int) []float64 {
		return sprinkled(r, values(n, func(int) float64 { return r.Float64() }))
	},
	"oddInSum": func(r *rand.Rand, n int) []float64 {
		sum := -100.0
		return sprinkled(r, values(n, func(int) float64 {
			for range 20 {
				sum += float64(r.IntN(1e6)) / 1e6
			}
			return sum
		}))
	},
	"staleAtEnd": func(r *rand.Rand, n int) []float64 {
		v := counter(r, n, 1, 1000)
		v[n-1] = stale
		return v
	},
}

var stale = math.Float64frombits(staleNaN)

func values(n int, f func(i int) float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = f(i)
	}
	return v
}

func counter(r *rand.Rand, n int, per, rate int64) []float64 {
	sum := int64(0)
	return values(n, func(int) float64 {
		sum += r.Int64N(rate)
		return float64(sum) / float64(per)
	})
}

func resets(v []float64, every int) []float64 {
	base := 0.0
	for i, x := range v {
		if i%every == 0 {
			base = x
		}
		v[i] = x - base
	}
	return v
}

func sprinkled(r *rand.Rand, v []float64) []float64 {
	for i := range v {
		if r.IntN(40) == 0 {
			v[i] = oddValues[r.IntN(len(oddValues))]
		}
	}
	return v
}

// kindsOfStart make start timestamps for t.
var kindsOfStart = map[string]func(r *rand.Rand, t []int64) []int64{
	"none":     func(r *rand.Rand, t []int64) []int64 { return nil },
	"zero":     func(r *rand.Rand, t []int64) []int64 { return make([]int64, len(t)) },
	"constant": func(r *rand.Rand, t []int64) []int64 { return steps(t[0], len(t), func(int) int64 { return 0 }) },
	"few": func(r *rand.Rand, t []int64) []int64 {
		return steps(t[0], len(t), func(int) int64 {
			if r.IntN(100) == 0 {
				return r.Int64N(1 << 30)
			}
			return 0
		})
	},
	"previous": func(r *rand.Rand, t []int64) []int64 { return append([]int64{0}, t[:len(t)-1]...) },
	"any": func(r *rand.Rand, t []int64) []int64 {
		return steps(0, len(t), func(int) int64 { return int64(r.Uint64()) })
	},
}

var lengths = []int{1, 2, 3, 7, 8, 9, 20, 63, 64, 65, 120, 480, 511, 512, 513, 1000, 1024, 1025, 2048, 2049, 5760}

func requireSame(t *testing.T, wantT []int64, wantV []float64, wantST []int64, got *Columns) {
	t.Helper()
	require.Equal(t, wantT, got.T)
	require.Len(t, got.V, len(wantV))
	for i, v := range wantV {
		if math.Float64bits(v) != math.Float64bits(got.V[i]) {
			require.Failf(t, "value differs", "sample %d: %#x, want %#x", i, math.Float64bits(got.V[i]), math.Float64bits(v))
		}
	}
	if allZero(wantST) {
		require.True(t, allZero(got.ST))
	} else {
		require.Equal(t, wantST, got.ST)
	}
}

func TestRoundTripEveryKind(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var c Columns
	check := func(t *testing.T, ts []int64, v []float64, st []int64) {
		row := Append(nil, ts, v, st)
		c.Reset()
		require.NoError(t, c.Decode(row))
		requireSame(t, ts, v, st, &c)
		if allZero(st) {
			require.Empty(t, c.ST)
		}
		n, err := Count(row)
		require.NoError(t, err)
		require.Equal(t, len(ts), n)
		mint, maxt, err := Bounds(row)
		require.NoError(t, err)
		require.Equal(t, [2]int64{ts[0], ts[len(ts)-1]}, [2]int64{mint, maxt})
	}
	for timeName, times := range kindsOfTime {
		for valueName, vals := range kindsOfValue {
			for _, n := range lengths {
				t.Run(timeName+"/"+valueName, func(t *testing.T) {
					ts := times(r, n)
					check(t, ts, vals(r, n), nil)
				})
			}
		}
		for startName, starts := range kindsOfStart {
			for _, n := range lengths {
				t.Run(timeName+"/"+startName, func(t *testing.T) {
					ts := times(r, n)
					check(t, ts, values(n, func(i int) float64 { return float64(i / 7) }), starts(r, ts))
				})
			}
		}
	}
}

// TestSlidingKernels: residuals of all widths are added up in the way of FORMAT.md.
func TestSlidingKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 7))
	for kind := kindSliding; kind < numKinds; kind++ {
		for _, zz := range []bool{false, true} {
			for _, width := range []int{3, 8, 13, 16, 40, 64} {
				c := column{kind: kind, zigzag: zz, base: r.Int64(), slope: int64(r.Uint64() >> 4), unit: 1}
				u, low, high := make([]uint64, 77), make([]byte, 77), make([]byte, 77)
				want := make([]int64, len(u))
				s := kind - 4
				a, k := c.slope<<s, c.base
				for i := range u {
					u[i] = r.Uint64() >> (64 - width)
					low[i], high[i] = byte(u[i]), byte(u[i]>>8)
					x := int64(u[i])
					if zz {
						x = unzigzag(u[i])
					}
					if i > 0 {
						k += a >> s
						a += x
					}
					k += x
					want[i] = k
				}
				got := make([]int64, len(u))
				integrate(&c, got, u)
				require.Equal(t, want, got)
				if width <= 16 {
					integratePairs(&c, got, low, high)
					require.Equal(t, want, got)
				}
				if width <= 8 {
					integrateBytes(&c, got, low)
					require.Equal(t, want, got)
				}
			}
		}
	}
}

// TestSlidingPays: counters whose rate wanders are written with a sliding mean, and smaller.
func TestSlidingPays(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 3))
	slid := 0
	for range 20 {
		row := Append(nil, steps(0, 480, func(int) int64 { return 15000 }), wandering(r, 480, 40), nil)
		if row[0]>>4 == version3 {
			slid++
			require.Error(t, new(Columns).Decode(appendChecksum(append([]byte{row[0]&15 | version2<<4}, row[1:len(row)-checksumLen]...), 0)), "a kind of version 3")
		}
	}
	require.Greater(t, slid, 15)
}
