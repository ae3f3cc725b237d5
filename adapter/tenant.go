package adapter

import (
	"fmt"
	"net/http"
)

const maxTenantBytes = 150

// tenantOf returns the tenant a request writes to, which a header names.
func tenantOf(h http.Header, header string) (tenant string, code int, err error) {
	if header == "" {
		return "", 0, nil
	}
	values := h.Values(header)
	if len(values) == 0 || values[0] == "" {
		return "", http.StatusUnauthorized, fmt.Errorf("no tenant: the header %s is missing", header)
	}
	if len(values) > 1 {
		return "", http.StatusBadRequest, fmt.Errorf("the header %s appears %d times", header, len(values))
	}
	if err := CheckTenant(values[0]); err != nil {
		return "", http.StatusBadRequest, err
	}
	return values[0], 0, nil
}

// CheckTenant says what is wrong with the name of a tenant. The rules are Mimir's
// (https://grafana.com/docs/mimir/latest/configure/about-tenant-ids/): at most 150 of the letters, digits and !-_.*'() of
// ASCII, and neither "." nor "..".
func CheckTenant(tenant string) error {
	switch {
	case tenant == "":
		return fmt.Errorf("the tenant is empty")
	case len(tenant) > maxTenantBytes:
		return fmt.Errorf("the tenant %q… has %d bytes, of at most %d", tenant[:20], len(tenant), maxTenantBytes)
	case tenant == "." || tenant == "..":
		return fmt.Errorf("the tenant must not be %q", tenant)
	}
	for i := range len(tenant) {
		c := tenant[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!', c == '-', c == '_', c == '.', c == '*', c == '\'', c == '(', c == ')':
		default:
			return fmt.Errorf("the tenant %q has the character %q, which is not allowed", tenant, c)
		}
	}
	return nil
}
