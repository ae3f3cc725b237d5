package promql

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// expr is a node of a generated expression: text around its operands. It prints to PromQL.
type expr struct {
	kind parser.ValueType
	text []string // one more than args
	args []*expr
}

func (e *expr) String() string {
	var b strings.Builder
	for i, t := range e.text {
		b.WriteString(t)
		if i < len(e.args) {
			b.WriteString(e.args[i].String())
		}
	}
	return b.String()
}

func leaf(kind parser.ValueType, text string) *expr { return &expr{kind: kind, text: []string{text}} }

// node prints format with an operand at each %s.
func node(kind parser.ValueType, format string, args ...*expr) *expr {
	return &expr{kind: kind, text: strings.SplitN(format, "%s", len(args)+1), args: args}
}

// generator makes random expressions over the whole grammar, from a seed.
type generator struct {
	*rand.Rand
	functions []*parser.Function
	start     int64 // of the data, in s
	length    int64
}

func newGenerator(seed uint64, start, length int64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), start: start, length: length}
	for _, f := range parser.Functions {
		g.functions = append(g.functions, f)
	}
	slices.SortFunc(g.functions, func(a, b *parser.Function) int { return strings.Compare(a.Name, b.Name) })
	return g
}

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// query is an expression of any kind that may be asked for.
func (g *generator) query(instant bool) *expr {
	switch n := g.IntN(100); {
	case n < 6:
		return g.scalar(3)
	case n < 10 && instant:
		return g.matrix(2)
	default:
		return g.vector(2 + g.IntN(4))
	}
}

func (g *generator) of(kind parser.ValueType, depth int) *expr {
	switch kind {
	case parser.ValueTypeScalar:
		return g.scalar(depth)
	case parser.ValueTypeMatrix:
		return g.matrix(depth)
	case parser.ValueTypeString:
		return leaf(kind, pick(g, `""`, `"job"`, `"instance"`, `"x"`, `"$1-x"`, `"(.*)"`, `"le"`))
	default:
		return g.vector(depth)
	}
}

func (g *generator) scalar(depth int) *expr {
	if depth <= 0 || g.chance(55) {
		return leaf(parser.ValueTypeScalar, pick(g, "0", "1", "2", "-1", "0.5", "0.95", "3", "10", "1e3", "NaN", "Inf", "-Inf", "-0.25", "300", "0x1f", "1m", "time()", "pi()"))
	}
	switch g.IntN(4) {
	case 0:
		return node(parser.ValueTypeScalar, "(%s "+pick(g, "+", "-", "*", "/", "%", "^", "atan2", "== bool", "> bool", "<= bool")+" %s)", g.scalar(depth-1), g.scalar(depth-1))
	case 1:
		return node(parser.ValueTypeScalar, pick(g, "-(%s)", "+%s", "(%s)"), g.scalar(depth-1))
	default:
		return node(parser.ValueTypeScalar, "scalar(%s)", g.vector(depth-1))
	}
}

func (g *generator) duration() string {
	return pick(g, "15s", "30s", "1m", "90s", "2m", "5m", "5m", "10m", "17m", "30m", "1h", "2h", "1h3m7s", "61s", "1s", "1500ms")
}

// selector is an instant selector without modifiers.
func (g *generator) selector() string {
	name := pick(g, "m_gauge", "m_gauge", "m_counter", "m_counter", "m_counter", "m_int", "m_const", "m_sparse", "m_special", "m_churn",
		"m_bucket", "m_bucket", "m_native", "m_native", "m_float_native", "m_gauge_native", "m_custom", "m_mixed", "m_absent", "target_info")
	var matchers []string
	for range g.IntN(3) {
		matchers = append(matchers, pick(g, `job="a"`, `job="b"`, `job!="a"`, `job=~"a|b"`, `job=~".+"`, `job!~"b.*"`, `instance=~"[12]"`,
			`instance="0"`, `nope=""`, `nope!=""`, `job=~".*"`, `instance!~"0|3"`))
	}
	switch n := g.IntN(20); {
	case n == 0:
		return `{__name__=~"m_(gauge|counter)"` + prefixed(matchers) + "}"
	case n == 1:
		return `{"` + name + `"` + prefixed(matchers) + "}"
	case n == 2:
		return `{job=~"a|b"` + prefixed(matchers) + "}"
	case len(matchers) > 0:
		return name + "{" + strings.Join(matchers, ",") + "}"
	}
	return name
}

func prefixed(matchers []string) string {
	if len(matchers) == 0 {
		return ""
	}
	return "," + strings.Join(matchers, ",")
}

// modifiers are offset and @, in either order.
func (g *generator) modifiers() string {
	var out []string
	if g.chance(15) {
		out = append(out, "offset "+pick(g, "", "-")+g.duration())
	}
	if g.chance(10) {
		out = append(out, "@ "+pick(g, "start()", "end()", fmt.Sprint(g.start+g.Int64N(g.length)), fmt.Sprintf("%d.5", g.start+g.Int64N(g.length))))
	}
	if len(out) == 0 {
		return ""
	}
	g.Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
	return " " + strings.Join(out, " ")
}

func (g *generator) matrix(depth int) *expr {
	if depth > 0 && g.chance(20) {
		step := ""
		if g.chance(80) {
			step = pick(g, "15s", "30s", "1m", "5m", "47s")
		}
		return node(parser.ValueTypeMatrix, "%s["+g.duration()+":"+step+"]"+g.modifiers(), paren(g.vector(depth-1)))
	}
	extended := ""
	if g.chance(8) {
		extended = pick(g, " anchored", " smoothed")
	}
	return leaf(parser.ValueTypeMatrix, g.selector()+"["+g.duration()+"]"+extended+g.modifiers())
}

func paren(e *expr) *expr { return node(e.kind, "(%s)", e) }

func (g *generator) labels() string {
	all := []string{"job", "instance", "le", "pod", "nope"}
	g.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return "(" + strings.Join(all[:g.IntN(3)], ",") + ")"
}

func (g *generator) vector(depth int) *expr {
	v := parser.ValueTypeVector
	if depth <= 0 || g.chance(10) {
		extended := ""
		if g.chance(3) {
			extended = " smoothed"
		}
		return leaf(v, g.selector()+extended+g.modifiers())
	}
	switch n := g.IntN(100); {
	case n < 30:
		return g.aggregation(depth)
	case n < 70:
		return g.call(depth)
	case n < 95:
		return g.binary(depth)
	default:
		return node(v, pick(g, "-(%s)", "(%s)", "+(%s)"), g.vector(depth-1))
	}
}

func (g *generator) aggregation(depth int) *expr {
	v := parser.ValueTypeVector
	grouping := ""
	if g.chance(75) {
		grouping = " " + pick(g, "by", "by", "without") + " " + g.labels() + " "
	}
	switch n := g.IntN(100); {
	case n < 70:
		op := pick(g, "sum", "sum", "sum", "avg", "avg", "min", "max", "count", "group", "stddev", "stdvar")
		return node(v, op+grouping+"(%s)", g.vector(depth-1))
	case n < 85:
		op := pick(g, "topk", "bottomk", "limitk")
		return node(v, op+grouping+"("+pick(g, "1", "2", "3", "0", "100")+", %s)", g.vector(depth-1))
	case n < 90:
		return node(v, "limit_ratio"+grouping+"("+pick(g, "0.5", "-0.5", "1", "0.1")+", %s)", g.vector(depth-1))
	case n < 96:
		return node(v, "quantile"+grouping+"(%s, %s)", g.scalar(1), g.vector(depth-1))
	default:
		return node(v, "count_values"+grouping+`("`+pick(g, "v", "job")+`", %s)`, g.vector(depth-1))
	}
}

// call is a call of any function that returns a vector, preferring what dashboards are made of.
func (g *generator) call(depth int) *expr {
	v := parser.ValueTypeVector
	switch n := g.IntN(100); {
	case n < 35:
		f := pick(g, "rate", "rate", "rate", "increase", "irate", "delta", "idelta", "avg_over_time", "max_over_time", "min_over_time",
			"sum_over_time", "count_over_time", "last_over_time", "changes", "resets", "deriv", "stddev_over_time")
		return node(v, f+"(%s)", g.matrix(depth-1))
	case n < 45:
		return node(v, "histogram_quantile("+pick(g, "0.9", "0.5", "0", "1", "0.99", "2")+", %s)",
			pick(g,
				node(v, "sum by (le, job) (rate(%s))", leaf(parser.ValueTypeMatrix, "m_bucket["+g.duration()+"]")),
				node(v, "rate(%s)", leaf(parser.ValueTypeMatrix, pick(g, "m_native", "m_custom", "m_float_native")+"["+g.duration()+"]")),
				leaf(v, pick(g, "m_bucket", "m_native", "m_custom", "m_mixed")), g.vector(depth-1)))
	case n < 50:
		return node(v, pick(g,
			`label_replace(%s, "pod", "$1", "instance", "(.*)")`,
			`label_replace(%s, "job", "x-$1", "job", "(a|b)")`,
			`label_replace(%s, "instance", "", "instance", ".*")`,
			`label_join(%s, "both", "-", "job", "instance")`), g.vector(depth-1))
	}
	for {
		f := g.functions[g.IntN(len(g.functions))]
		if f.ReturnType != v {
			continue
		}
		n := len(f.ArgTypes)
		switch {
		case f.Variadic > 0:
			n -= g.IntN(f.Variadic + 1)
		case f.Variadic < 0:
			n += g.IntN(2)
		}
		var args []*expr
		for i := range max(n, 0) {
			args = append(args, g.of(f.ArgTypes[min(i, len(f.ArgTypes)-1)], depth-1))
		}
		return node(v, f.Name+"("+strings.TrimSuffix(strings.Repeat("%s, ", len(args)), ", ")+")", args...)
	}
}

func (g *generator) binary(depth int) *expr {
	v := parser.ValueTypeVector
	op := pick(g, "+", "-", "*", "/", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=")
	if strings.ContainsAny(op, "=<>") && g.chance(40) {
		op += " bool"
	}
	switch n := g.IntN(100); {
	case n < 35:
		args := []*expr{paren(g.vector(depth - 1)), g.scalar(depth - 1)}
		if g.chance(50) {
			slices.Reverse(args)
		}
		return node(v, "%s "+op+" %s", args...)
	case n < 60:
		set := pick(g, "and", "or", "unless")
		return node(v, "%s "+set+g.matching(false)+" %s", paren(g.vector(depth-1)), paren(g.vector(depth-1)))
	case n < 75:
		// Both sides from one selector, so that they match.
		s := g.selector()
		return node(v, "%s "+op+" %s", leaf(v, s), leaf(v, s+g.modifiers()))
	}
	return node(v, "%s "+op+g.matching(true)+" %s", paren(g.vector(depth-1)), paren(g.vector(depth-1)))
}

func (g *generator) matching(group bool) string {
	if g.chance(40) {
		return ""
	}
	out := " " + pick(g, "on", "ignoring") + " " + g.labels()
	if !group {
		return out
	}
	if g.chance(40) {
		out += " " + pick(g, "group_left", "group_right") + " " + pick(g, "()", "(nope)", "(job)", "")
	}
	if g.chance(10) {
		out += " " + pick(g, "fill(0)", "fill_left(1)", "fill_right(NaN)")
	}
	return out
}

// shrink looks for the smallest expression that still fails: nodes give way to what they are made of, and to simple ones.
func shrink(e *expr, fails func(*expr) bool) *expr {
	simple := map[parser.ValueType][]*expr{
		parser.ValueTypeScalar: {leaf(parser.ValueTypeScalar, "1")},
		parser.ValueTypeVector: {leaf(parser.ValueTypeVector, "m_int"), leaf(parser.ValueTypeVector, "m_gauge")},
		parser.ValueTypeMatrix: {leaf(parser.ValueTypeMatrix, "m_int[5m]"), leaf(parser.ValueTypeMatrix, "m_counter[5m]")},
	}
again:
	for path := range paths(e) {
		old := at(e, path)
		for _, smaller := range append(inside(old), simple[old.kind]...) {
			if len(smaller.String()) >= len(old.String()) {
				continue
			}
			if candidate := replace(e, path, smaller); fails(candidate) {
				e = candidate
				goto again
			}
		}
	}
	return e
}

// paths yields the way to every node, nearest to the root first.
func paths(e *expr) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		level := [][]int{nil}
		for len(level) > 0 {
			var next [][]int
			for _, p := range level {
				if !yield(p) {
					return
				}
				for i := range at(e, p).args {
					next = append(next, append(slices.Clone(p), i))
				}
			}
			level = next
		}
	}
}

func at(e *expr, path []int) *expr {
	for _, i := range path {
		e = e.args[i]
	}
	return e
}

// inside are the nodes of the same kind below e.
func inside(e *expr) (out []*expr) {
	for p := range paths(e) {
		if n := at(e, p); len(p) > 0 && n.kind == e.kind {
			out = append(out, n)
		}
	}
	return out
}

func replace(e *expr, path []int, with *expr) *expr {
	if len(path) == 0 {
		return with
	}
	c := &expr{e.kind, e.text, slices.Clone(e.args)}
	c.args[path[0]] = replace(e.args[path[0]], path[1:], with)
	return c
}
