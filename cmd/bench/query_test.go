package bench

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

func TestDashboardQueriesReadTheLoad(t *testing.T) {
	q := queryBench{scale: 1}
	require.GreaterOrEqual(t, len(dashboardQueries), 30)
	for _, r := range queryRanges {
		load, err := q.load(r)
		require.NoError(t, err)
		names := load.Names()
		for _, d := range dashboardQueries {
			read, err := metricsOf([]dashboardQuery{d}, names)
			require.NoError(t, err, d.name)
			require.NotEmpty(t, read, "%s reads no metric of the load", d.name)
		}
		require.Less(t, len(load.machine()), len(node())/2, "what nobody asks for is left out")
	}
}

func TestPlausibleValues(t *testing.T) {
	q := queryBench{scale: 1}
	load, err := q.load(queryRanges[2])
	require.NoError(t, err)
	load.Series, load.Steps = len(load.machine())+100, 4_000
	values := load.Values()
	makePlausible(load, values)
	histograms, restarts := 0, 0
	for i := range load.Series - 1 {
		this, next := load.Labels(i, 0), load.Labels(i+1, 0)
		if le := next.Get("le"); this.Get("le") == "" || le == "" || le == "0.005" {
			continue
		}
		require.True(t, strings.HasSuffix(this.Get(model.MetricNameLabel), "_bucket"))
		histograms++
		for step := range load.Steps {
			if values.At(i, step) > values.At(i+1, step) {
				require.FailNow(t, "buckets are cumulative", "%s at %d", this, step)
			}
			if step > 0 && values.At(i+1, step) < values.At(i+1, step-1) {
				restarts++
				require.LessOrEqual(t, values.At(i, step), values.At(i, step-1), "buckets restart together")
			}
		}
	}
	require.Greater(t, histograms, 200)
	require.Positive(t, restarts)
}

func TestAnswers(t *testing.T) {
	parse := func(values string) answer {
		a, err := parseAnswer([]byte(`{"status":"success","data":{"resultType":"matrix","result":[` + values + `]}}`))
		require.NoError(t, err)
		return a
	}
	right := parse(`{"metric":{"b":"1","a":"2"},"values":[[1.5,"0.1"],[2,"NaN"],[3,"+Inf"],[4,"100"]]}`)
	same := func(values string, tolerance float64) bool {
		text, _ := right.difference(parse(values), tolerance)
		return text == ""
	}
	exact := `{"metric":{"a":"2","b":"1"},"values":[[1.5,"0.1"],[2,"NaN"],[3,"+Inf"],[4,"100"]]}`
	require.True(t, same(exact, 0))
	for old, changed := range map[string]string{
		`"0.1"`:   `"0.10000000000000002"`,
		`"100"`:   `"1e+02"`,
		`[1.5,`:   `[1.500,`,
		`[4,"100`: `[4,"99.99999999999999`,
	} {
		require.False(t, same(strings.Replace(exact, old, changed, 1), 0), changed)
		require.True(t, same(strings.Replace(exact, old, changed, 1), 1e-12), changed)
	}
	for old, changed := range map[string]string{
		`"0.1"`:        `"0.100001"`,
		`"NaN"`:        `"1"`,
		`"+Inf"`:       `"-Inf"`,
		`[1.5,`:        `[1.6,`,
		`"a":"2"`:      `"a":"3"`,
		`,[4,"100"]`:   ``,
		`[1.5,"0.1"],`: ``,
		`[4,"100"]]}`:  `[4,"100"]]},{"metric":{},"values":[[1,"1"]]}`,
	} {
		require.False(t, same(strings.Replace(exact, old, changed, 1), 1e-9), changed)
	}
	require.False(t, same("", 1e-9))
	_, err := parseAnswer([]byte(`{"status":"error","error":"no"}`))
	require.Error(t, err)
}

// A range whose answers are all compared, with the real stores; and a promkeep that lacks a sample must be found out.
func TestBenchQueryComparesAnswers(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if err != nil || testing.Short() {
		t.Skip("needs a Prometheus, and time")
	}
	ctx := context.Background()
	q := queryBench{scale: 1, runs: 1}
	r := queryRange{"day", "two hours", 300, 2 * time.Hour, time.Minute, false}
	load, err := q.load(r)
	require.NoError(t, err)
	values := load.Values()
	makePlausible(load, values)
	var all []*contender
	for range 2 {
		c, err := q.fill(ctx, prometheusPeer(path), t.TempDir(), load, values, false)
		require.NoError(t, err)
		defer c.stop()
		all = append(all, c)
		// What the second has is a little different.
		values.v[400] += 1e6
	}
	all[1].tolerance = lastPlaces
	end := load.Start + int64(load.Steps)*load.Interval.Milliseconds()
	series := load.Labels(0, 0)
	changed := dashboardQuery{"changed", "max_over_time(" + series.String() + "[5m])"}
	require.NoError(t, q.ask(ctx, all, dashboardQuery{"up", "sum(up)"}, end, r))
	require.ErrorIs(t, q.ask(ctx, all, changed, end, r), errDifferent)
	require.Equal(t, "≠", all[1].results[1].equal)
	require.Equal(t, 1, all[1].different)
}
