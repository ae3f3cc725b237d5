package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/promkeep/promkeep/schema"
)

// TenantsError means that there are as many tenants as Config.MaxTenants allows, and that a batch was for one more.
type TenantsError struct{ Max int }

func (e *TenantsError) Error() string {
	return fmt.Sprintf("there are as many tenants as the limit max_tenants allows: %d; nothing of the request was stored", e.Max)
}

// LimitExceeded is the limit's name and value.
func (e *TenantsError) LimitExceeded() string { return fmt.Sprintf("max_tenants: %d", e.Max) }

// RetryAfter is how long a client should wait: somebody has to raise the limit.
func (e *TenantsError) RetryAfter() time.Duration { return time.Minute }

// tenant returns the ID of the tenant with the name, which is created if the limit of tenants allows it.
func (db *DB) tenant(ctx context.Context, name string) (int32, error) {
	if db.cfg.MaxTenants > 0 {
		id, ok, err := db.catalogue.LookupTenant(ctx, name)
		if err != nil {
			return 0, unavailable(err)
		}
		if ok {
			return id, nil
		}
		// One at a time, so that requests which come together cannot pass the limit together.
		db.tenantMu.Lock()
		defer db.tenantMu.Unlock()
		var all int
		if err := db.pool.QueryRow(ctx, schema.TenantCount, name).Scan(&all); err != nil {
			return 0, unavailable(err)
		}
		if all >= db.cfg.MaxTenants {
			return 0, &TenantsError{db.cfg.MaxTenants}
		}
	}
	id, err := db.catalogue.Tenant(ctx, name)
	if err != nil {
		return 0, unavailable(err)
	}
	return id, nil
}
