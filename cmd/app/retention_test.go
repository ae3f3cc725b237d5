package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRetentionRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(file, []byte(`rules:
  - match: '{job="api"}'
    tenant: team-a
    keep: 1y
  - tenant: team-b
    keep: 12h
`), 0o600))
	f := retentionFlags{file: file, rules: []string{
		`{__name__=~"debug_.*"}=7d`, `up=30d`, `up@team-a=2y`, `@team-b=30d`, `{}@team-c=1w`, `{a="x@y=1",b!="="}=1h`, `{a="x@y"}@t=1h30m`,
	}}
	rules, err := f.all()
	require.NoError(t, err)
	var got []string
	for _, r := range rules {
		got = append(got, r.String())
	}
	require.Equal(t, []string{
		`"" {__name__=~"debug_.*"} 168h0m0s`,
		`"" {__name__="up"} 720h0m0s`,
		`"team-a" {__name__="up"} 17520h0m0s`,
		`"team-b" {} 720h0m0s`,
		`"team-c" {} 168h0m0s`,
		`"" {a="x@y=1",b!="="} 1h0m0s`,
		`"t" {a="x@y"} 1h30m0s`,
		`"team-a" {job="api"} 8760h0m0s`,
		`"team-b" {} 12h0m0s`,
	}, got)

	for rule, message := range map[string]string{
		"up":           "no time",
		"up=":          "duration",
		"up=soon":      "duration",
		"up=0s":        "more than 0",
		"=7d":          "a selector or a tenant",
		"{}=7d":        "a selector or a tenant",
		"up{=7d":       "unexpected",
		"up@=7d":       "empty",
		"up@a b=7d":    "not allowed",
		`{a=~"("}=7d`:  "missing closing",
		"rate(up)=12h": "unexpected",
	} {
		_, err := (&retentionFlags{rules: []string{rule}}).all()
		require.ErrorContains(t, err, message, rule)
		require.ErrorContains(t, err, "--storage.retention.rule="+rule)
	}
	require.NoError(t, os.WriteFile(file, []byte("rules:\n  - match: up\n    keep: 7d\n    until: x\n"), 0o600))
	_, err = (&retentionFlags{file: file}).all()
	require.ErrorContains(t, err, "until")
}
