package tenancy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// DefaultHeader is where Mimir, Cortex and Loki expect the tenant.
const DefaultHeader = "X-Scope-OrgID"

const maxTenantBytes = 150

// Policy tells whose a request is. With the nil policy all requests are of one tenant, which has no name.
type Policy struct {
	// Header names the tenant, or several joined by "|" where they are read. It must come from a proxy that can be trusted.
	Header string
	// User, if not nil, comes before Header: it returns the user whose password was verified, who is the tenant. A header
	// that names another tenant is refused then.
	User func(*http.Request) (string, error)
	// MaxQueried bounds the tenants of one query; 0 is no bound.
	MaxQueried int
}

// Error is why a request has no tenant, with the status it is answered with.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return e.Text }

func wrong(code int, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Writer returns the tenant that a request writes to. Errors are of type *Error.
func (p *Policy) Writer(r *http.Request) (string, error) {
	tenants, err := p.tenants(r)
	if err != nil || len(tenants) == 0 {
		return "", err
	}
	if len(tenants) > 1 {
		return "", wrong(http.StatusBadRequest, "a request writes to one tenant, not to the %d of %q", len(tenants), strings.Join(tenants, "|"))
	}
	return tenants[0], nil
}

// Readers returns the tenants that a request reads: in order, each once; none if there are no tenants. Errors are of type *Error.
func (p *Policy) Readers(r *http.Request) ([]string, error) {
	tenants, err := p.tenants(r)
	if err != nil {
		return nil, err
	}
	slices.Sort(tenants)
	tenants = slices.Compact(tenants)
	if p != nil && p.MaxQueried > 0 && len(tenants) > p.MaxQueried {
		return nil, wrong(http.StatusUnprocessableEntity, "the query names %d tenants, the limit is %d", len(tenants), p.MaxQueried)
	}
	return tenants, nil
}

func (p *Policy) tenants(r *http.Request) ([]string, error) {
	if p == nil {
		return nil, nil
	}
	named, err := p.named(r.Header)
	if err != nil {
		return nil, err
	}
	if p.User != nil {
		user, err := p.User(r)
		if err != nil {
			return nil, wrong(http.StatusUnauthorized, "%v", err)
		}
		if err := Check(user); err != nil {
			return nil, wrong(http.StatusForbidden, "the user is no tenant: %v", err)
		}
		if len(named) > 0 && !slices.Equal(named, []string{user}) {
			return nil, wrong(http.StatusForbidden, "the header %s names %q, the user is %q", p.Header, strings.Join(named, "|"), user)
		}
		return []string{user}, nil
	}
	if len(named) == 0 {
		return nil, wrong(http.StatusUnauthorized, "no tenant: the header %s is missing", p.Header)
	}
	return named, nil
}

// named returns what the header names.
func (p *Policy) named(h http.Header) ([]string, error) {
	values := h.Values(p.Header)
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil, nil
	}
	if len(values) > 1 {
		// Which of them the proxy set cannot be told.
		return nil, wrong(http.StatusBadRequest, "the header %s appears %d times", p.Header, len(values))
	}
	tenants := strings.Split(values[0], "|")
	for _, t := range tenants {
		if err := Check(t); err != nil {
			return nil, wrong(http.StatusBadRequest, "%v", err)
		}
	}
	return tenants, nil
}

// Check says what is wrong with the name of a tenant. The rules are Mimir's
// (https://grafana.com/docs/mimir/latest/configure/about-tenant-ids/): at most 150 of the letters, digits and !-_.*'() of
// ASCII, and none of ".", ".." and "__mimir_cluster".
func Check(tenant string) error {
	switch {
	case tenant == "":
		return errors.New("the tenant is empty")
	case len(tenant) > maxTenantBytes:
		return fmt.Errorf("the tenant %q… has %d bytes, the limit is %d", tenant[:20], len(tenant), maxTenantBytes)
	case tenant == "." || tenant == ".." || tenant == "__mimir_cluster":
		return fmt.Errorf("the tenant must not be %q", tenant)
	}
	for i := range len(tenant) {
		c := tenant[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!-_.*'()", c) >= 0:
		default:
			return fmt.Errorf("the tenant %q has the character %q, which is not allowed", tenant, c)
		}
	}
	return nil
}

// adminPath begins the paths that change what is stored, which they do for one tenant.
const adminPath = "/api/v1/admin/"

// Middleware puts the tenants that a request reads into its context, and answers requests that have none.
func (p *Policy) Middleware(next http.Handler) http.Handler {
	if p == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions { // what browsers ask first has no header
			next.ServeHTTP(w, r)
			return
		}
		tenants, err := p.Readers(r)
		if err == nil && strings.HasPrefix(r.URL.Path, adminPath) {
			_, err = p.Writer(r)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithTenants(r.Context(), tenants)))
	})
}

// Single is Middleware for requests that change something: they are of one tenant.
func (p *Policy) Single(next http.Handler) http.Handler {
	if p == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			next.ServeHTTP(w, r)
			return
		}
		tenant, err := p.Writer(r)
		if err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithTenants(r.Context(), []string{tenant})))
	})
}

// refuse answers in the form of Prometheus' API.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var e *Error
	if errors.As(err, &e) {
		code = e.Code
	}
	kind := "bad_data"
	switch code {
	case http.StatusUnauthorized:
		kind = "unauthorized"
	case http.StatusForbidden:
		kind = "forbidden"
	case http.StatusUnprocessableEntity:
		kind = "execution"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": err.Error()})
}
