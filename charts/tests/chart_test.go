package tests

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestLint is helm lint --strict for each values file.
func TestLint(t *testing.T) {
	for name, values := range ciValues(t) {
		t.Run(name, func(t *testing.T) {
			for _, m := range lint.AllWithKubeVersion(chartDir, values, "monitoring", nil).Messages {
				// That the chart has no icon is all it may say.
				if m.Severity > support.InfoSev {
					t.Error(m)
				}
			}
		})
	}
}

// TestGolden renders each values file, decodes each manifest strictly into its type, and compares the text with what was
// looked at before. go test -update writes it anew.
func TestGolden(t *testing.T) {
	for name, values := range ciValues(t) {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, values)
			require.NoError(t, err)
			objects(t, got)
			got = withoutDashboards(t, got)
			for line := range strings.Lines(got) {
				require.Equal(t, strings.TrimRight(line, " \n"), strings.TrimRight(line, "\n"), "a line ends with spaces")
			}
			file := filepath.Join("testdata", "golden", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "go test -update writes it")
			require.Equal(t, string(want), got)
		})
	}
}

// withoutDashboards leaves the dashboards themselves out of rendered manifests, having seen that they are there unchanged.
func withoutDashboards(t *testing.T, manifests string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chartDir, "dashboards", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		name := filepath.Base(f)
		if !strings.Contains(manifests, name+": |") {
			continue
		}
		content, err := os.ReadFile(f)
		require.NoError(t, err)
		indented := "    " + strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", "\n    ")
		require.Contains(t, manifests, indented)
		manifests = strings.ReplaceAll(manifests, indented, "    (as it is)")
	}
	return manifests
}

// TestRestricted holds each pod against the restricted Pod Security Standard, with the code of the admission controller.
func TestRestricted(t *testing.T) {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, values := range ciValues(t) {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, values)
			require.NoError(t, err)
			for pod, template := range podTemplates(objects(t, got)) {
				result := policy.AggregateCheckResults(checks.EvaluatePod(level, &template.ObjectMeta, &template.Spec))
				require.True(t, result.Allowed, "%s: %s", pod, result.ForbiddenDetail())
			}
		})
	}
}

// accepted runs promkeep with the arguments, and a database URI at which it ends once it has understood them.
func accepted(t *testing.T, args []string) (bool, string) {
	t.Helper()
	args = slices.Clone(args)
	for i, a := range args {
		if strings.HasPrefix(a, "--web.listen-address=") {
			args[i] = "--web.listen-address=127.0.0.1:0"
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = []string{"PROMKEEP_DB_URI=this is no URI"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "promkeep ended with %v\n%s", err, out)
	return exit.ExitCode() == 1, string(out)
}

// TestArguments gives each rendered command line to the real promkeep: it exits with 2 for one it does not understand.
func TestArguments(t *testing.T) {
	ok, _ := accepted(t, []string{"serve", "--web.listen-address=:0", "--no.such.flag=1"})
	require.False(t, ok, "a flag that does not exist is taken")
	ok, _ = accepted(t, []string{"serve", "--web.listen-address=:0", "--storage.retention.time=never"})
	require.False(t, ok, "a value that cannot be is taken")
	for name, values := range ciValues(t) {
		t.Run(name, func(t *testing.T) {
			got, err := render(t, values)
			require.NoError(t, err)
			args := arguments(t, objects(t, got))
			ok, out := accepted(t, args)
			require.True(t, ok, "%s\n%s", args, out)
		})
	}
}

// notForExtraArgs are flags that the chart sets itself, or that would start a PostgreSQL which the image does not have.
var notForExtraArgs = []string{"web.listen-address", "web.config.file", "db.uri", "db.uri-file", "data-dir", "postgres.bin-dir", "write.relabel-config.file", "limits.file"}

// TestEveryFlagIsReachable sets each flag of promkeep serve through extraArgs.
func TestEveryFlagIsReachable(t *testing.T) {
	help, err := exec.Command(binary, "serve", "--help").Output()
	require.NoError(t, err)
	flags := regexp.MustCompile(`(?m)^\s+(?:-h, )?--(\[no-\])?([a-z][a-z0-9.-]+)`).FindAllStringSubmatch(string(help), -1)
	require.Greater(t, len(flags), 20)
	for _, f := range flags {
		name := f[2]
		if name == "help" || name == "version" {
			continue
		}
		var value any = "1"
		want := "--" + name + "=1"
		if f[1] != "" {
			value, want = true, "--"+name
		}
		got, err := render(t, map[string]any{"database": map[string]any{"existingSecret": "s"}, "extraArgs": map[string]any{name: value}})
		if slices.Contains(notForExtraArgs, name) {
			require.ErrorContains(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		args := arguments(t, objects(t, got))
		require.Contains(t, args, want)
		count := 0
		for _, a := range args {
			if a == "--"+name || strings.HasPrefix(a, "--"+name+"=") {
				count++
			}
		}
		require.Equal(t, 1, count, "%s comes once: %v", name, args)
	}
}

// TestSecretsStayInSecrets looks for passwords of values files outside of Secrets.
func TestSecretsStayInSecrets(t *testing.T) {
	for name, secret := range map[string]string{"uri": "not-a-real-password", "timescaledb": "notARealPassword", "web-config": "$2y$10$"} {
		got, err := render(t, ciValues(t)[name])
		require.NoError(t, err)
		require.Contains(t, got, secret)
		for doc := range strings.SplitSeq(got, "---\n") {
			if strings.TrimSpace(doc) == "" {
				continue
			}
			if _, is := objects(t, doc)[0].(*corev1.Secret); !is {
				require.NotContains(t, doc, secret, name)
			}
		}
	}
}

// TestRefused: values that make no sense end in words, not in a pod that does not start.
func TestRefused(t *testing.T) {
	db := map[string]any{"existingSecret": "s"}
	for name, c := range map[string]struct {
		values map[string]any
		says   string
	}{
		"no database":         {map[string]any{}, "promkeep needs a database"},
		"two databases":       {map[string]any{"database": db, "timescaledb": map[string]any{"enabled": true}}, "brings a database of its own"},
		"a misspelt value":    {map[string]any{"database": db, "retentoin": "1y"}, "retentoin"},
		"a nested one":        {map[string]any{"database": db, "storage": map[string]any{"head": map[string]any{"size": "1GiB"}}}, "size"},
		"a retention in Go":   {map[string]any{"database": db, "retention": "1.5h"}, "retention"},
		"an unknown level":    {map[string]any{"database": db, "logLevel": "trace"}, "logLevel"},
		"the URI as argument": {map[string]any{"database": db, "extraArgs": map[string]any{"db.uri": "postgres://x"}}, "db.uri"},
		"a number as a map":   {map[string]any{"database": db, "extraArgs": map[string]any{"query.timeout": map[string]any{}}}, "query.timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, c.values)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// TestReadmeNamesEachValue compares the table of the README with values.yaml, both ways.
func TestReadmeNamesEachValue(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(chartDir, "README.md"))
	require.NoError(t, err)
	values, err := chartutil.ReadValuesFile(filepath.Join(chartDir, "values.yaml"))
	require.NoError(t, err)
	var want, got []string
	var walk func(prefix string, values map[string]any)
	walk = func(prefix string, values map[string]any) {
		for k, v := range values {
			if m, ok := v.(map[string]any); ok && len(m) > 0 {
				walk(prefix+k+".", m)
				continue
			}
			want = append(want, prefix+k)
		}
	}
	walk("", values)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(readme), -1) {
		got = append(got, m[1])
	}
	require.ElementsMatch(t, want, got)
}

// TestRules runs promtool over the alerts and their unit tests, of which each has one.
func TestRules(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(chartDir, "rules", "promkeep.yaml"))
	require.NoError(t, err)
	tests, err := os.ReadFile("rules_test.yaml")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		require.Contains(t, string(tests), `alertname="`+m[1]+`"`)
	}
	promtool, err := exec.LookPath("promtool")
	require.NoError(t, err, "promtool is not installed: run make deps-test")
	out, err := exec.Command(promtool, "test", "rules", "rules_test.yaml").CombinedOutput()
	require.NoError(t, err, "%s", out)
}
