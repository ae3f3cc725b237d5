package promql

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// grafanaHeaders are those of Grafana's Prometheus data source.
const grafanaHeaders = `
	User-Agent: Grafana/11.2.0
	Accept-Encoding: gzip
	X-Datasource-Uid: P1809F7CD0C75ACF3
	X-Grafana-Org-Id: 1
	X-Panel-Id: 2
	X-Query-Group-Id: 5c0e1f6a-2d5d-4b26-bd0c-8a2c7c7f4a40`

const form = "\nContent-Type: application/x-www-form-urlencoded"

// TestGrafana sends what Grafana sends, byte by byte.
func TestGrafana(t *testing.T) {
	s := serve(t)
	start, end := s.at(0), s.at(samples-1)
	post := func(path string, values url.Values) answer {
		t.Helper()
		return s.raw(t, "POST "+path+" HTTP/1.1"+grafanaHeaders+form, values.Encode())
	}
	get := func(path string) answer {
		t.Helper()
		return s.raw(t, "GET "+path+" HTTP/1.1"+grafanaHeaders, "")
	}
	ok := func(t *testing.T, a answer, data string) {
		t.Helper()
		require.Equal(t, 200, a.code, a.body)
		require.Equal(t, "success", a.Status)
		require.Empty(t, a.Warnings)
		require.JSONEq(t, data, string(a.Data))
	}

	t.Run("health check", func(t *testing.T) {
		a := post("/api/v1/query", url.Values{"query": {"1+1"}, "time": {"4"}})
		ok(t, a, `{"resultType":"scalar","result":[4,"2"]}`)
		require.Equal(t, "gzip", a.header.Get("Content-Encoding"))
	})
	t.Run("buildinfo", func(t *testing.T) {
		a := get("/api/v1/status/buildinfo")
		require.Equal(t, 200, a.code)
		keys := map[string]string{}
		require.NoError(t, unmarshal(a.Data, &keys))
		require.Len(t, keys, 6, "a features key would make Grafana take us for Mimir")
		for _, k := range []string{"version", "revision", "branch", "buildUser", "buildDate", "goVersion"} {
			require.Contains(t, keys, k)
		}
	})
	t.Run("range query of a panel", func(t *testing.T) {
		a := post("/api/v1/query_range", url.Values{
			"query": {`sum by(cluster) (avg_over_time(requests_total{cluster=~".+"}[1m]))`},
			"start": {unix(s.at(118))}, "end": {unix(s.at(122))}, "step": {"30"},
		})
		// The four samples up to i, on both sides of the border between the database and memory.
		at := func(i int, slope float64) string {
			return fmt.Sprintf(`[%s,"%v"]`, unix(s.at(i)), slope*(float64(i)-1.5))
		}
		ok(t, a, fmt.Sprintf(`{"resultType":"matrix","result":[
			{"metric":{"cluster":"a"},"values":[%s,%s,%s]},{"metric":{"cluster":"b"},"values":[%s,%s,%s]}]}`,
			at(118, 3), at(120, 3), at(122, 3), at(118, 1), at(120, 1), at(122, 1)))
	})
	t.Run("instant query of a table, over clusters", func(t *testing.T) {
		a := post("/api/v1/query", url.Values{"query": {"sum by (cluster) (up)"}, "time": {unix(end)}})
		ok(t, a, fmt.Sprintf(`{"resultType":"vector","result":[
			{"metric":{"cluster":"a"},"value":[%s,"1"]},{"metric":{"cluster":"b"},"value":[%[1]s,"1"]}]}`, unix(end)))
	})
	t.Run("exemplar probe in milliseconds", func(t *testing.T) {
		// Grafana asks whether exemplars exist with a range in milliseconds where the API takes seconds.
		a := post("/api/v1/query_exemplars", url.Values{
			"query": {"requests_total"}, "start": {fmt.Sprint(start.UnixMilli())}, "end": {fmt.Sprint(end.UnixMilli())},
		})
		ok(t, a, `[]`)
	})
	t.Run("series of the builder", func(t *testing.T) {
		a := post("/api/v1/series", url.Values{"match[]": {`up{job="node"}`}, "start": {unix(start)}, "end": {unix(end)}, "limit": {"40000"}})
		ok(t, a, `[{"__name__":"up","cluster":"b","instance":"two:9100","job":"node"}]`)
	})
	t.Run("labels of the builder", func(t *testing.T) {
		a := post("/api/v1/labels", url.Values{"match[]": {`{__name__="up"}`}, "start": {unix(start)}, "end": {unix(end)}, "limit": {"40000"}})
		ok(t, a, `["__name__","cluster","instance","job"]`)
	})
	t.Run("all metric names", func(t *testing.T) {
		a := get("/api/v1/label/__name__/values?start=" + unix(start) + "&end=" + unix(end) + "&limit=40000")
		ok(t, a, `["requests_total","spans","up"]`)
	})
	t.Run("label_values of a template variable", func(t *testing.T) {
		a := get("/api/v1/label/instance/values?match%5B%5D=up%7Bcluster%3D%22b%22%7D&start=" + unix(start) + "&end=" + unix(end))
		ok(t, a, `["one:9090","two:9100"]`)
	})
	t.Run("label_values with a limit", func(t *testing.T) {
		a := get("/api/v1/label/instance/values?match%5B%5D=up&limit=1")
		require.Equal(t, 200, a.code)
		require.JSONEq(t, `["one:9090"]`, string(a.Data))
		require.Equal(t, []string{"results truncated due to limit"}, a.Warnings)
	})
	t.Run("values of a label whose name is escaped", func(t *testing.T) {
		ok(t, get("/api/v1/label/U__http_2e_status__code/values"), `["200"]`)
	})
	t.Run("MinTime and MaxTime as strings", func(t *testing.T) {
		const all = "start=-292273086-05-16T16%3A47%3A06Z&end=%2B292277025-08-18T07%3A12%3A54.999999999Z"
		a := get("/api/v1/label/job/values?" + all)
		require.Equal(t, 400, a.code, "the + of the year is not part of upstream's spelling")
		const max = "&end=292277025-08-18T07%3A12%3A54.999999999Z"
		ok(t, get("/api/v1/label/job/values?start=-292273086-05-16T16%3A47%3A06Z"+max), `["node","prometheus"]`)
		ok(t, get("/api/v1/series?match%5B%5D=spans&start=-292273086-05-16T16%3A47%3A06Z"+max), `[{"__name__":"spans","http.status_code":"200"}]`)
	})
	t.Run("metadata", func(t *testing.T) { ok(t, get("/api/v1/metadata?limit=10000"), `{}`) })
	t.Run("rules", func(t *testing.T) { ok(t, get("/api/v1/rules"), `{"groups":[]}`) })
	t.Run("alerts", func(t *testing.T) { ok(t, get("/api/v1/alerts"), `{"alerts":[]}`) })
	t.Run("alertmanagers", func(t *testing.T) {
		ok(t, get("/api/v1/alertmanagers"), `{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`)
	})
	t.Run("targets", func(t *testing.T) {
		ok(t, get("/api/v1/targets"), `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`)
	})
	t.Run("an error is shown", func(t *testing.T) {
		a := post("/api/v1/query", url.Values{"query": {"sum("}})
		require.Equal(t, 400, a.code)
		require.Equal(t, "bad_data", a.ErrorType)
		require.Contains(t, a.Error, "parse error")
	})
}

// unix is a time as Grafana writes it.
func unix(t time.Time) string { return fmt.Sprint(t.Unix()) }
