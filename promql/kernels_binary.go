package promql

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"
)

// operation is a binary operator over what two kernels compute, or one of them and a number.
type operation struct {
	op          parser.ItemType
	left, right *kernel // one of them may be nil
	number      float64 // in its place
	matching    *parser.VectorMatching
	returnBool  bool
}

// of returns an operand, if it is computed by a kernel.
func (o *operation) of(side int) *kernel {
	switch {
	case o == nil:
		return nil
	case side == 0:
		return o.left
	}
	return o.right
}

// binaryKernel returns the kernel that computes a binary expression, or nil.
func binaryKernel(e *parser.BinaryExpr) *kernel {
	if _, ok := operators[e.Op]; !ok && !e.Op.IsSetOperator() {
		return nil
	}
	o := &operation{op: e.Op, matching: e.VectorMatching, returnBool: e.ReturnBool}
	if n, ok := constant(e.LHS); ok {
		o.number = n
	} else if o.left = kernelOf(e.LHS); o.left == nil {
		return nil
	}
	if n, ok := constant(e.RHS); ok {
		o.number = n
	} else if o.right = kernelOf(e.RHS); o.right == nil {
		return nil
	}
	if o.left == nil && o.right == nil {
		return nil
	}
	if o.left != nil && o.right != nil && (o.matching == nil || o.matching.FillValues.LHS != nil || o.matching.FillValues.RHS != nil) {
		return nil
	}
	return &kernel{operation: o}
}

// operators compute what the engine's operators do with two floats; keep is false where a comparison does not hold.
var operators = map[parser.ItemType]func(a, b float64) (v float64, keep bool){
	parser.ADD:   func(a, b float64) (float64, bool) { return a + b, true },
	parser.SUB:   func(a, b float64) (float64, bool) { return a - b, true },
	parser.MUL:   func(a, b float64) (float64, bool) { return a * b, true },
	parser.DIV:   func(a, b float64) (float64, bool) { return a / b, true },
	parser.POW:   func(a, b float64) (float64, bool) { return math.Pow(a, b), true },
	parser.MOD:   func(a, b float64) (float64, bool) { return math.Mod(a, b), true },
	parser.ATAN2: func(a, b float64) (float64, bool) { return math.Atan2(a, b), true },
	parser.EQLC:  func(a, b float64) (float64, bool) { return a, a == b },
	parser.NEQ:   func(a, b float64) (float64, bool) { return a, a != b },
	parser.GTR:   func(a, b float64) (float64, bool) { return a, a > b },
	parser.LSS:   func(a, b float64) (float64, bool) { return a, a < b },
	parser.GTE:   func(a, b float64) (float64, bool) { return a, a >= b },
	parser.LTE:   func(a, b float64) (float64, bool) { return a, a <= b },
}

// operate computes a binary expression.
func (q *kernelQueryable) operate(ctx context.Context, o *operation, g grid) (out []points, err error) {
	var left, right []points
	if o.left != nil && o.right != nil {
		var (
			group    sync.WaitGroup
			rightErr error
		)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		group.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					rightErr = fmt.Errorf("%w: %v", errNotCovered, r)
				}
				if rightErr != nil {
					cancel()
				}
			}()
			right, rightErr = q.compute(ctx, o.right)
		})
		if left, err = q.compute(ctx, o.left); err != nil {
			cancel()
		}
		group.Wait()
		if rightErr != nil && (err == nil || ctx.Err() != nil) {
			err = rightErr
		}
		if err != nil {
			return nil, err
		}
		switch {
		case o.op.IsSetOperator():
			out, err = o.set(g, left, right)
		default:
			out, err = o.match(ctx, g, left, right)
		}
	} else {
		side := o.left
		if side == nil {
			side = o.right
		}
		if left, err = q.compute(ctx, side); err != nil {
			return nil, err
		}
		out, err = o.scale(ctx, g, left)
	}
	if err != nil {
		return nil, err
	}
	if q.samples.Add(int64(len(out))*int64(g.steps)+int64(len(left))+int64(len(right))) > q.limit {
		return nil, fmt.Errorf("%w: too many samples", errNotCovered)
	}
	return slices.DeleteFunc(out, func(p points) bool { return p.values == nil }), nil
}

// changesSchema tells whether the result is another metric than the operand.
func (o *operation) changesSchema() bool { return o.returnBool || !o.op.IsComparisonOperator() }

// scale computes an operation with a number. Series without a result have no values.
func (o *operation) scale(ctx context.Context, g grid, in []points) ([]points, error) {
	f := operators[o.op]
	out := make([]points, len(in))
	seen := make(map[uint64]struct{}, len(in))
	for i, p := range in {
		out[i] = points{labels: p.labels, grid: g}
		if o.changesSchema() {
			out[i].labels = p.labels.DropReserved(schema.IsMetadataLabel)
			seen[out[i].labels.Hash()] = struct{}{}
		}
	}
	if o.changesSchema() && len(seen) < len(in) {
		return nil, fmt.Errorf("%w: series with the same labels", errNotCovered)
	}
	compares := o.op.IsComparisonOperator()
	err := inParallel(ctx, len(in), several(len(in)), func() func(i int) error {
		return func(i int) error {
			values, found := make([]float64, g.steps), false
			for step, x := range in[i].values {
				values[step] = absent
				if isAbsent(x) {
					continue
				}
				var (
					v    float64
					keep bool
				)
				if o.left != nil {
					v, keep = f(x, o.number)
				} else if v, keep = f(o.number, x); compares {
					v = x
				}
				if o.returnBool {
					v, keep = truth(keep), true
				}
				if keep {
					values[step], found = v, true
				}
			}
			if found {
				out[i].values = values
			}
			return nil
		}
	})
	return out, err
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// signatures returns what series are matched by: the same number for those that match.
func (o *operation) signatures(sides ...[]points) (of [][]int, n int) {
	names := slices.Clone(o.matching.MatchingLabels)
	if !o.matching.On {
		names = append(names, model.MetricNameLabel)
	}
	slices.Sort(names)
	var buf []byte
	numbers := map[string]int{}
	for _, side := range sides {
		list := make([]int, len(side))
		for i, p := range side {
			if o.matching.On {
				buf = p.labels.BytesWithLabels(buf, names...)
			} else {
				buf = p.labels.BytesWithoutLabels(buf, names...)
			}
			number, ok := numbers[string(buf)]
			if !ok {
				number = len(numbers)
				numbers[string(buf)] = number
			}
			list[i] = number
		}
		of = append(of, list)
	}
	return of, len(numbers)
}

// pair is two series whose samples are combined.
type pair struct{ many, one int }

// match computes an operation of vectors that is one to one, many to one, or one to many. Where the engine would complain
// of several matches at a step, or where that is laborious to tell, it is not covered.
func (o *operation) match(ctx context.Context, g grid, left, right []points) ([]points, error) {
	many, one := left, right
	swapped := o.matching.Card == parser.CardOneToMany
	if swapped {
		many, one = right, left
	}
	signatures, n := o.signatures(many, one)
	ones := make([][]int, n) // by signature
	for i, s := range signatures[1] {
		for _, j := range ones[s] {
			if overlap(one[i].values, one[j].values) {
				return nil, fmt.Errorf("%w: duplicate series", errNotCovered)
			}
		}
		ones[s] = append(ones[s], i)
	}
	if o.matching.Card == parser.CardOneToOne {
		manies := make([]int, n)
		for _, s := range signatures[0] {
			if manies[s]++; manies[s] > 1 && len(ones[s]) > 0 {
				return nil, fmt.Errorf("%w: several series of a signature", errNotCovered)
			}
		}
	}
	var (
		pairs   []pair
		out     []points
		first   = map[uint64]int{} // result with the labels
		target  []int              // of each pair; itself, or an earlier one with the same labels
		merged  bool
		builder = labels.NewBuilder(labels.EmptyLabels())
	)
	for i, s := range signatures[0] {
		for _, j := range ones[s] {
			ls := o.result(builder, many[i].labels, one[j].labels)
			at, ok := first[ls.Hash()]
			if !ok {
				at = len(pairs)
				first[ls.Hash()] = at
			} else if pairs[at].many != i {
				return nil, fmt.Errorf("%w: results with the same labels", errNotCovered)
			} else {
				merged = true
			}
			pairs, target = append(pairs, pair{i, j}), append(target, at)
			out = append(out, points{labels: ls, grid: g})
		}
	}
	f := operators[o.op]
	err := inParallel(ctx, len(pairs), several(len(pairs)), func() func(i int) error {
		return func(i int) error {
			a, b := many[pairs[i].many].values, one[pairs[i].one].values
			if swapped {
				a, b = b, a
			}
			values, found := make([]float64, g.steps), false
			for step, x := range a {
				y := b[step]
				values[step] = absent
				if isAbsent(x) || isAbsent(y) {
					continue
				}
				v, keep := f(x, y)
				if o.returnBool {
					v, keep = truth(keep), true
				}
				if keep {
					values[step], found = v, true
				}
			}
			if found {
				out[i].values = values
			}
			return nil
		}
	})
	if err != nil || !merged {
		return out, err
	}
	// A series of the one side follows another with the same signature: never do both have a value.
	for i := range out {
		t := target[i]
		if t == i || out[i].values == nil {
			continue
		}
		if out[t].values == nil {
			out[t].values = out[i].values
		} else {
			fillIn(out[t].values, out[i].values)
		}
		out[i].values = nil
	}
	return out, nil
}

// result returns the labels of the result of a pair.
func (o *operation) result(b *labels.Builder, many, one labels.Labels) labels.Labels {
	b.Reset(many)
	if o.changesSchema() {
		schema.Metadata{}.SetToLabels(b)
	}
	if o.matching.Card == parser.CardOneToOne {
		if o.matching.On {
			b.Keep(o.matching.MatchingLabels...)
		} else {
			b.Del(o.matching.MatchingLabels...)
		}
	}
	for _, name := range o.matching.Include {
		if v := one.Get(name); v != "" {
			b.Set(name, v)
		} else {
			b.Del(name)
		}
	}
	return b.Labels()
}

// overlap tells whether there is a step with both values.
func overlap(a, b []float64) bool {
	for i, x := range a {
		if !isAbsent(x) && !isAbsent(b[i]) {
			return true
		}
	}
	return false
}

// fillIn puts the values of b where a has none.
func fillIn(a, b []float64) {
	for i, x := range b {
		if isAbsent(a[i]) {
			a[i] = x
		}
	}
}

// set computes and, or, unless.
func (o *operation) set(g grid, left, right []points) ([]points, error) {
	signatures, n := o.signatures(left, right)
	present := make([][]bool, n) // by signature and step, on the side that decides
	decides, numbers := right, signatures[1]
	if o.op == parser.LOR {
		decides, numbers = left, signatures[0]
	}
	for i, p := range decides {
		at := present[numbers[i]]
		if at == nil {
			at = make([]bool, g.steps)
			present[numbers[i]] = at
		}
		for step, x := range p.values {
			at[step] = at[step] || !isAbsent(x)
		}
	}
	// masked keeps the values at steps where the signature is present, or is not.
	masked := func(p points, at []bool, wanted bool) points {
		if at == nil {
			if wanted {
				p.values = nil
			}
			return p
		}
		values, found := make([]float64, g.steps), false
		for step, x := range p.values {
			values[step] = absent
			if at[step] == wanted && !isAbsent(x) {
				values[step], found = x, true
			}
		}
		if p.values = values; !found {
			p.values = nil
		}
		return p
	}
	if o.op != parser.LOR {
		out := make([]points, len(left))
		for i, p := range left {
			out[i] = masked(p, present[signatures[0][i]], o.op == parser.LAND)
		}
		return out, nil
	}
	out := slices.Clone(left)
	byLabels := make(map[uint64]int, len(left))
	for i, p := range left {
		byLabels[p.labels.Hash()] = i
	}
	for i, p := range right {
		p = masked(p, present[signatures[1][i]], false)
		if p.values == nil {
			continue
		}
		at, ok := byLabels[p.labels.Hash()]
		if !ok {
			out = append(out, p)
			continue
		}
		if overlap(out[at].values, p.values) {
			return nil, fmt.Errorf("%w: series with the same labels", errNotCovered)
		}
		values := slices.Clone(out[at].values)
		fillIn(values, p.values)
		out[at].values = values
	}
	return out, nil
}
