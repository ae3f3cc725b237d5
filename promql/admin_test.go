package promql

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// admin sends a request of the admin API, and returns status and error.
func admin(t *testing.T, s *testServer, method, path string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/api/v1/admin/tsdb/"+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode == http.StatusNoContent {
		require.Empty(t, body)
		return resp.StatusCode, ""
	}
	var answer apiResponse
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	return resp.StatusCode, answer.Error
}

// TestAdminAPI: half of the samples lie in the database, half in memory; a deletion concerns both, and is in the next answer.
func TestAdminAPI(t *testing.T) {
	s := serve(t)
	for _, path := range []string{"delete_series", "clean_tombstones", "snapshot"} {
		status, message := admin(t, s, http.MethodPost, path, url.Values{"match[]": {"up"}})
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "admin APIs disabled", message)
	}
	s = &testServer{Server: serveOver(t, s.store, func(o *Options) { o.Admin = s.store.DB }).Server, store: s.store, from: s.from}
	count := func(selector string) string {
		got := s.get(t, "/api/v1/query?query="+url.QueryEscape("sum(count_over_time("+selector+"[2h]))")+"&time="+strconv.FormatInt(time.Now().Unix(), 10))
		var data struct {
			Result []struct{ Value [2]any }
		}
		require.NoError(t, json.Unmarshal(got.Data, &data))
		if len(data.Result) == 0 {
			return ""
		}
		return data.Result[0].Value[1].(string)
	}
	for query, want := range map[string]string{
		"":                           "no match[] parameter provided",
		"match[]=up{":                "invalid parameter \"match[]\"",
		"match[]={}":                 "at least one non-empty matcher",
		"match[]=up&start=yesterday": "invalid parameter \"start\": cannot parse \"yesterday\" to a valid timestamp",
		"match[]=up&end=x":           "invalid parameter \"end\"",
		"match[]=up&match[]=!":       "invalid parameter \"match[]\"",
	} {
		form, err := url.ParseQuery(query)
		require.NoError(t, err)
		status, message := admin(t, s, http.MethodPost, "delete_series", form)
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Contains(t, message, want, query)
	}
	status, message := admin(t, s, http.MethodPost, "snapshot", nil)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, message, "back up the database")

	names := s.get(t, "/api/v1/label/__name__/values")
	var metrics []string
	require.NoError(t, json.Unmarshal(names.Data, &metrics))
	require.GreaterOrEqual(t, len(metrics), 2)
	first, second := metrics[0], metrics[1]
	before, other := count(first), count(second)
	require.NotEmpty(t, before)

	// A quarter of an hour around the middle.
	middle := s.from.Add(samples / 2 * step)
	status, message = admin(t, s, http.MethodPut, "delete_series", url.Values{"match[]": {first},
		"start": {middle.Add(-5 * time.Minute).Format(time.RFC3339)}, "end": {strconv.FormatFloat(float64(middle.Add(10*time.Minute).UnixMilli())/1000, 'f', 3, 64)}})
	require.Equal(t, http.StatusNoContent, status, message)
	n, err := strconv.Atoi(before)
	require.NoError(t, err)
	after, err := strconv.Atoi(count(first))
	require.NoError(t, err)
	require.Equal(t, n*(samples-61)/samples, after, "of each series 61 samples are gone")
	require.Equal(t, other, count(second))

	status, message = admin(t, s, http.MethodPost, "clean_tombstones", nil)
	require.Equal(t, http.StatusNoContent, status, message)
	require.Equal(t, strconv.Itoa(after), count(first))
	status, message = admin(t, s, http.MethodPost, "delete_series", url.Values{"match[]": {first}})
	require.Equal(t, http.StatusNoContent, status, message)
	require.Empty(t, count(first))
	require.Equal(t, other, count(second))
	require.NotContains(t, string(s.get(t, "/api/v1/series?match[]="+url.QueryEscape(first)).Data), first)
}
