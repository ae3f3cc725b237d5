package promql

import (
	"context"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestADamagedRowIsAnInternalError: samples that cannot be decoded are the storage's fault, 500, on each way to them; other series
// are answered, and so are queries that fail for reasons of their own.
func TestADamagedRowIsAnInternalError(t *testing.T) {
	s := serve(t)
	window := "&start=" + unix(s.at(0)) + "&end=" + unix(s.at(samples/2-1))
	paths := []string{
		"/api/v1/query?query=spans&time=" + unix(s.at(samples/4)),
		"/api/v1/query?query=spans[30m]&time=" + unix(s.at(samples/4)),
		"/api/v1/query_range?query=spans*2&step=60" + window,
		"/api/v1/query_range?query=sum(avg_over_time(spans[5m]))&step=60" + window, // a kernel
		"/api/v1/query_range?query=topk(1,spans)&step=60" + window,
	}
	for _, path := range paths {
		require.Equal(t, 200, s.get(t, path).code, path)
	}
	damage := func(table string) {
		require.NoError(t, pgtestExec(context.Background(), s.store.pg, "UPDATE _promkeep."+table+` SET data = set_byte(data, 0, 255)
			WHERE series_id >> 37 = (SELECT id FROM _promkeep.metric WHERE name = 'spans')`))
	}
	damage("recent")
	damage("chunk")
	for _, path := range paths {
		a := s.get(t, path)
		require.Equal(t, 500, a.code, "%s: %s", path, a.body)
		require.Equal(t, "internal", a.ErrorType, path)
		require.Regexp(t, "(row of series|bundle of series from) [0-9]+.* [0-9]+ to [0-9]+ ms", a.Error, path) // alone in its table row, or with others
	}
	for name, typ := range responseTypes {
		_, err := remoteRead(t, s, "/read", typ, s.at(0), s.at(samples/2-1), labels.MustNewMatcher(labels.MatchEqual, "__name__", "spans"))
		require.ErrorContains(t, err, "500", name)
	}
	// A federation has nothing sent before it has read everything. It is about now, which is damaged once it is flushed.
	federate := "/federate?match[]=spans&match[]=up"
	require.Equal(t, 200, s.get(t, federate).code)
	require.NoError(t, s.store.moveTo(context.Background(), flushed))
	require.Contains(t, s.get(t, federate).body, "spans{")
	damage("recent")
	a := s.get(t, federate)
	require.Equal(t, 500, a.code, a.body)
	require.Regexp(t, "(row of series|bundle of series from) [0-9]+.*spans", a.body)
	require.Equal(t, 200, s.get(t, "/federate?match[]=up").code)

	require.Equal(t, 200, s.get(t, "/api/v1/query?query=up&time="+unix(s.at(samples/4))).code)
	a = s.get(t, "/api/v1/query?query=up*on(job)up&time="+unix(s.at(samples/4)))
	require.Equal(t, 422, a.code)
	require.Equal(t, "execution", a.ErrorType)
}
