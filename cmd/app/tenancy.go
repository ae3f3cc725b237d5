package app

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"go.yaml.in/yaml/v2"

	"github.com/promkeep/promkeep/adapter/tenancy"
)

// tenancyFlags say where the tenant of a request comes from.
type tenancyFlags struct {
	enabled, basicAuth bool
	header             string
	maxTenants         int
	maxQueried         int
}

func (f *tenancyFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("tenancy.enabled", "Keep tenants apart: every write and every query must name its tenant, in the header of --tenancy.header. Without it there is one tenant.").BoolVar(&f.enabled)
	cmd.Flag("tenancy.header", "Header with the tenant, or in queries with several as a|b, whose series are then told apart by the label __tenant_id__. It must come from a proxy that can be trusted.").Default(tenancy.DefaultHeader).StringVar(&f.header)
	cmd.Flag("tenancy.from-basic-auth", "The tenant is the user of the basic auth of --web.config.file, and the header may name no other. Implies --tenancy.enabled.").BoolVar(&f.basicAuth)
	cmd.Flag("tenancy.max-tenants", "Tenants there may be: writes for one more are refused with 429. 0 is any number.").Default("10000").IntVar(&f.maxTenants)
	cmd.Flag("tenancy.max-query-tenants", "Tenants that one query may name; 0 is any number.").Default("32").IntVar(&f.maxQueried)
}

// policy returns nil without tenancy. webConfig is the file of --web.config.file.
func (f *tenancyFlags) policy(webConfig string) (*tenancy.Policy, error) {
	if !f.enabled && !f.basicAuth {
		return nil, nil
	}
	if f.header == "" {
		return nil, errors.New("--tenancy.header must not be empty")
	}
	p := &tenancy.Policy{Header: f.header, MaxQueried: f.maxQueried}
	if f.basicAuth {
		users := &webUsers{path: webConfig}
		if err := users.check(); err != nil {
			return nil, fmt.Errorf("--tenancy.from-basic-auth: %w", err)
		}
		p.User = users.of
	}
	return p, nil
}

// webUsers are the users in the web configuration file. The HTTP server reads that file anew at each request, and verifies passwords
// only as long as it has users: so a user counts only while the file has that user.
type webUsers struct {
	path string

	mu       sync.Mutex // guards what follows
	modified time.Time
	size     int64
	users    map[string]any
}

func (w *webUsers) check() error {
	if w.path == "" {
		return errors.New("--web.config.file is not given")
	}
	users, err := w.read()
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return fmt.Errorf("%s has no basic_auth_users", w.path)
	}
	for user := range users {
		if err := tenancy.Check(user); err != nil {
			return fmt.Errorf("a user in %s is no tenant: %w", w.path, err)
		}
	}
	return nil
}

// read returns the users, by name.
func (w *webUsers) read() (map[string]any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err != nil {
		return nil, err
	}
	if w.users != nil && info.ModTime().Equal(w.modified) && info.Size() == w.size {
		return w.users, nil
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Users map[string]any `yaml:"basic_auth_users"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", w.path, err)
	}
	w.users, w.modified, w.size = file.Users, info.ModTime(), info.Size()
	if w.users == nil {
		w.users = map[string]any{}
	}
	return w.users, nil
}

// of returns the user of a request that came through the HTTP server's check of passwords.
func (w *webUsers) of(r *http.Request) (string, error) {
	user, _, ok := r.BasicAuth()
	if !ok {
		return "", errors.New("no tenant: the request has no basic auth")
	}
	users, err := w.read()
	if err != nil {
		return "", fmt.Errorf("no tenant: the users cannot be told: %w", err)
	}
	if _, ok := users[user]; !ok {
		return "", errors.New("no tenant: the user is not in the web configuration file")
	}
	return user, nil
}
