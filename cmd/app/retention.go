package app

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
)

// retentionFlags say how long samples are kept.
type retentionFlags struct {
	time  model.Duration
	size  units.Base2Bytes
	rules []string
	file  string
}

func (f *retentionFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("storage.retention.time", "How long samples are kept; whole days are dropped.").Default("90d").SetValue(&f.time)
	cmd.Flag("storage.retention.size", "How large all of promkeep's tables and indexes may get on disk; the oldest days are dropped first. 0 is no limit. Units are powers of two: B, KB, MB, GB, TB, PB, EB.").Default("0").BytesVar(&f.size)
	cmd.Flag("storage.retention.rule", `Keep the series that match for another time than --storage.retention.time, shorter or longer: a selector, a tenant behind @, or both, and after = the time, such as {__name__=~"debug_.*"}=7d, up@team-a=2y or @team-b=30d. May be repeated; the first that matches a series counts.`).PlaceHolder("RULE").StringsVar(&f.rules)
	cmd.Flag("storage.retention.rules-file", "YAML file with more such rules, which come after those of --storage.retention.rule: under the key rules a list with keep, and match, tenant, or both.").StringVar(&f.file)
}

// String says in Prometheus' words how long samples are kept.
func (f *retentionFlags) String() string {
	if f.size > 0 {
		return f.time.String() + " or " + f.size.String()
	}
	return f.time.String()
}

// retentionRule is a rule as it is written.
type retentionRule struct {
	Match  string         `yaml:"match"`
	Tenant string         `yaml:"tenant"`
	Keep   model.Duration `yaml:"keep"`
}

// all returns the rules in the order in which they count.
func (f *retentionFlags) all() ([]storage.RetentionRule, error) {
	var out []storage.RetentionRule
	for _, text := range f.rules {
		written, err := splitRetentionRule(text)
		if err != nil {
			return nil, fmt.Errorf("--storage.retention.rule=%s: %w", text, err)
		}
		rule, err := written.rule()
		if err != nil {
			return nil, fmt.Errorf("--storage.retention.rule=%s: %w", text, err)
		}
		out = append(out, rule)
	}
	if f.file == "" {
		return out, nil
	}
	raw, err := os.ReadFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("--storage.retention.rules-file: %w", err)
	}
	var file struct {
		Rules []retentionRule `yaml:"rules"`
	}
	if err := yaml.UnmarshalStrict(raw, &file); err != nil {
		return nil, fmt.Errorf("--storage.retention.rules-file %s: %w", f.file, err)
	}
	for i, written := range file.Rules {
		rule, err := written.rule()
		if err != nil {
			return nil, fmt.Errorf("--storage.retention.rules-file %s: rule %d: %w", f.file, i+1, err)
		}
		out = append(out, rule)
	}
	return out, nil
}

// tenantSuffix is what follows a selector: an @ in quotes is not it, since a brace comes after that.
var tenantSuffix = regexp.MustCompile(`@([^@{}"]*)$`)

// splitRetentionRule reads SELECTOR@TENANT=TIME.
func splitRetentionRule(text string) (r retentionRule, err error) {
	at := strings.LastIndexByte(text, '=')
	if at < 0 {
		return r, errors.New("it has no time behind an =")
	}
	if err := r.Keep.Set(text[at+1:]); err != nil {
		return r, err
	}
	r.Match = strings.TrimSpace(text[:at])
	if m := tenantSuffix.FindStringSubmatchIndex(r.Match); m != nil {
		r.Match, r.Tenant = r.Match[:m[0]], r.Match[m[2]:m[3]]
		if r.Tenant == "" {
			return r, errors.New("the tenant behind @ is empty")
		}
	}
	return r, nil
}

func (r retentionRule) rule() (storage.RetentionRule, error) {
	out := storage.RetentionRule{Tenant: r.Tenant, Keep: time.Duration(r.Keep)}
	if r.Keep <= 0 {
		return out, errors.New("the time must be more than 0")
	}
	if r.Tenant != "" {
		if err := tenancy.Check(r.Tenant); err != nil {
			return out, err
		}
	}
	if r.Match == "" || r.Match == "{}" {
		if r.Tenant == "" {
			return out, errors.New("it needs a selector or a tenant; for all series there is --storage.retention.time")
		}
		return out, nil
	}
	var err error
	out.Matchers, err = parser.NewParser(parser.Options{}).ParseMetricSelector(r.Match)
	return out, err
}
