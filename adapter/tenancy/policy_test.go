package tenancy_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestNames: Mimir's rules for the names of tenants.
func TestNames(t *testing.T) {
	for tenant, good := range map[string]bool{
		"a": true, "team-a": true, "Team_b.(x)!*'": true, "0": true, "...": true, strings.Repeat("x", 150): true,
		"": false, ".": false, "..": false, "__mimir_cluster": false, "a/b": false, "a b": false, "a|b": false, "ü": false, "a\x00": false,
		"a,b": false, `a\b`: false, strings.Repeat("x", 151): false,
	} {
		require.Equal(t, good, tenancy.Check(tenant) == nil, "%q", tenant)
	}
}

// TestPolicy: what each way of sending a tenant means to a writer and to a reader.
func TestPolicy(t *testing.T) {
	header := &tenancy.Policy{Header: "X-Scope-OrgID", MaxQueried: 3}
	user := &tenancy.Policy{Header: "X-Scope-OrgID", MaxQueried: 3, User: func(r *http.Request) (string, error) {
		name, _, ok := r.BasicAuth()
		if !ok {
			return "", errors.New("who are you?")
		}
		return name, nil
	}}
	for _, c := range []struct {
		name    string
		policy  *tenancy.Policy
		headers []string
		user    string
		writer  string
		readers string // joined
		code    int    // of both, or
		write   int    // of the writer alone
		read    int    // of the reader alone
	}{
		{name: "no tenancy", headers: []string{"a"}},
		{name: "one", policy: header, headers: []string{"a"}, writer: "a", readers: "a"},
		{name: "none", policy: header, code: 401},
		{name: "empty", policy: header, headers: []string{""}, code: 401},
		{name: "twice", policy: header, headers: []string{"a", "b"}, code: 400},
		{name: "twice the same", policy: header, headers: []string{"a", "a"}, code: 400},
		{name: "not a name", policy: header, headers: []string{"a/b"}, code: 400},
		{name: "several", policy: header, headers: []string{"b|a"}, write: 400, readers: "a|b"},
		{name: "several, some twice", policy: header, headers: []string{"b|a|b|a"}, write: 400, readers: "a|b"},
		{name: "one twice", policy: header, headers: []string{"a|a"}, write: 400, readers: "a"},
		{name: "several, one empty", policy: header, headers: []string{"a|"}, code: 400},
		{name: "several, one not a name", policy: header, headers: []string{"a|b/c"}, code: 400},
		{name: "at the limit", policy: header, headers: []string{"a|b|c"}, write: 400, readers: "a|b|c"},
		{name: "beyond the limit", policy: header, headers: []string{"a|b|c|d"}, write: 400, read: 422},
		{name: "user", policy: user, user: "a", writer: "a", readers: "a"},
		{name: "user and the same", policy: user, user: "a", headers: []string{"a"}, writer: "a", readers: "a"},
		{name: "user and another", policy: user, user: "a", headers: []string{"b"}, code: 403},
		{name: "user and more", policy: user, user: "a", headers: []string{"a|b"}, code: 403},
		{name: "no user", policy: user, headers: []string{"a"}, code: 401},
		{name: "user that is no tenant", policy: user, user: "a/b", code: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for _, h := range c.headers {
				r.Header.Add("X-Scope-OrgID", h)
			}
			if c.user != "" {
				r.SetBasicAuth(c.user, "secret")
			}
			codeOf := func(err error) int {
				if err == nil {
					return 0
				}
				var e *tenancy.Error
				require.ErrorAs(t, err, &e)
				return e.Code
			}
			writer, err := c.policy.Writer(r)
			require.Equal(t, c.code+c.write, codeOf(err), "%v", err)
			require.Equal(t, c.writer, writer)
			readers, err := c.policy.Readers(r)
			require.Equal(t, c.code+c.read, codeOf(err), "%v", err)
			require.Equal(t, c.readers, strings.Join(readers, "|"))
		})
	}
}

// TestSingle: what changes something is of one tenant.
func TestSingle(t *testing.T) {
	p := &tenancy.Policy{Header: "X-Scope-OrgID"}
	for header, code := range map[string]int{"a": http.StatusNoContent, "a|b": http.StatusBadRequest, "": http.StatusUnauthorized} {
		reached := false
		r := httptest.NewRequest(http.MethodPost, "/api/v1/admin/tsdb/delete_series", nil)
		r.Header.Set("X-Scope-OrgID", header)
		w := httptest.NewRecorder()
		p.Single(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			reached = true
			w.WriteHeader(http.StatusNoContent)
		})).ServeHTTP(w, r)
		require.Equal(t, code, w.Code, header)
		require.Equal(t, code == http.StatusNoContent, reached, header)
	}
}

// TestSeveralAreNotTheDefault: what reads for the one tenant of a context reads nothing for several, and what deletes is of one.
func TestSeveralAreNotTheDefault(t *testing.T) {
	p := &tenancy.Policy{Header: tenancy.DefaultHeader}
	passed := 0
	h := p.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ }))
	for header, code := range map[string]int{"a": 200, "a|b": 400, "a|a": 400, "": 401} {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/admin/tsdb/delete_series?match[]=up", nil)
		r.Header.Set(tenancy.DefaultHeader, header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, code, w.Code, "%q: %s", header, w.Body)
	}
	require.Equal(t, 1, passed)

	db, err := storage.Open(t.Context(), storage.Config{URI: pgtest.New(t).URI, NoMaintenance: true})
	require.NoError(t, err)
	defer db.Close()
	write(t, db, storage.DefaultTenant, []labels.Labels{labels.FromStrings("__name__", "m")}, "")
	all := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")}
	require.NotEmpty(t, dump(t, db, t.Context(), nil, all))
	several := tenancy.WithTenants(t.Context(), []string{"a", "b"})
	require.Empty(t, dump(t, db, several, nil, all))
	require.NoError(t, db.Delete(several, base, base+3600_000, all))
	require.NotEmpty(t, dump(t, db, t.Context(), nil, all), "deleted from the default tenant")
}
