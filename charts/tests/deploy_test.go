package tests

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// dockerfile parses the Dockerfile as docker build does, and lets its linter find nothing.
func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	parsed, err := parser.Parse(bytes.NewReader(b))
	require.NoError(t, err)
	require.Empty(t, parsed.Warnings)
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: func(rule, _, _, detail string, _ []parser.Range) {
		t.Errorf("%s: %s", rule, detail)
	}}))
	require.NoError(t, err)
	require.Len(t, stages, 2)
	return stages
}

// copyContext puts into dst what the build stage copies, without what Dockerfile.dockerignore leaves out.
func copyContext(t *testing.T, stage instructions.Stage, dst string) {
	t.Helper()
	for _, c := range stage.Commands {
		c, ok := c.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		for _, source := range c.SourcePaths {
			to := filepath.Join(dst, c.DestPath)
			if strings.HasSuffix(c.DestPath, "/") {
				to = filepath.Join(to, path.Base(source))
			}
			from := filepath.Join(root, source)
			require.NoError(t, filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
				if err != nil || strings.HasSuffix(p, "_test.go") {
					return err
				}
				if d.IsDir() {
					if d.Name() == "testdata" {
						return fs.SkipDir
					}
					return nil
				}
				rel, err := filepath.Rel(from, p)
				require.NoError(t, err)
				b, err := os.ReadFile(p)
				require.NoError(t, err)
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o755))
				return os.WriteFile(filepath.Join(to, rel), b, 0o644)
			}))
		}
	}
}

// TestDockerfileBuilds runs the build command of the Dockerfile, as it is written there, in two directories that hold nothing but
// what it copies: the binary is static, knows its version, and is the same both times.
func TestDockerfileBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	stage := dockerfile(t)[0]
	var command string
	for _, c := range stage.Commands {
		if run, ok := c.(*instructions.RunCommand); ok && strings.Contains(strings.Join(run.CmdLine, " "), "go build") {
			command = strings.Join(run.CmdLine, " ")
		}
	}
	require.Contains(t, command, " -o /promkeep ")
	var sums [][32]byte
	for range 2 {
		dir := t.TempDir()
		copyContext(t, stage, dir)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(command, " -o /promkeep ", " -o ./promkeep ", 1))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH, "VERSION=v9.8.7", "REVISION=0123abc", "BRANCH=b", "DATE=20260102-03:04:05")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		b, err := os.ReadFile(filepath.Join(dir, "promkeep"))
		require.NoError(t, err)
		sums = append(sums, sha256.Sum256(b))
		f, err := elf.NewFile(bytes.NewReader(b))
		require.NoError(t, err)
		for _, p := range f.Progs {
			require.NotEqual(t, elf.PT_INTERP, p.Type, "the binary is not static")
		}
		version, err := exec.Command(filepath.Join(dir, "promkeep"), "--version").Output()
		require.NoError(t, err)
		require.Contains(t, string(version), "v9.8.7")
		require.Contains(t, string(version), "20260102-03:04:05")
	}
	require.Equal(t, sums[0], sums[1], "the same source gives another binary in another directory")
}

// TestDockerfileImage: the user is a number other than 0, the entry point is what was copied, and promkeep takes the command.
func TestDockerfileImage(t *testing.T) {
	stages := dockerfile(t)
	goVersion, err := exec.Command("go", "-C", root, "list", "-m", "-f", "{{.GoVersion}}").Output()
	require.NoError(t, err)
	minor := regexp.MustCompile(`^1\.\d+`).FindString(string(goVersion))
	require.Contains(t, stages[0].BaseName, "golang:"+minor+"-", "the Go of the image is that of go.mod")
	var copied, entry, command, user string
	for _, c := range stages[1].Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			copied = c.DestPath
		case *instructions.EntrypointCommand:
			entry = strings.Join(c.CmdLine, " ")
		case *instructions.CmdCommand:
			command = strings.Join(c.CmdLine, " ")
		case *instructions.UserCommand:
			user = c.User
		case *instructions.ExposeCommand:
			require.Equal(t, []string{"9201"}, c.Ports)
		}
	}
	require.Equal(t, copied, entry)
	require.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, user)
	ok, out := accepted(t, append(strings.Fields(command), "--web.listen-address=:0"))
	require.True(t, ok, out)
}

// TestDockerignore: what the Dockerfile copies is not ignored, and what comes along by accident is.
func TestDockerignore(t *testing.T) {
	f, err := os.Open(filepath.Join(root, "Dockerfile.dockerignore"))
	require.NoError(t, err)
	defer f.Close()
	var kept []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "!"); ok {
			kept = append(kept, rest)
		}
	}
	var copied []string
	for _, c := range dockerfile(t)[0].Commands {
		if c, ok := c.(*instructions.CopyCommand); ok {
			copied = append(copied, c.SourcePaths...)
		}
	}
	require.ElementsMatch(t, kept, copied)
}

// TestCompose loads docker-compose.yml as docker compose does, against its schema, and follows what it names: each mounted
// file is there, each flag is one of promkeep's, and the configurations of Prometheus and Grafana reach the services they name.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")})
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	require.NoError(t, project.CheckContainerNameUnicity())
	mounts := map[string]string{} // target by source
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				require.Contains(t, project.Volumes, v.Source)
				continue
			}
			_, err := os.Stat(v.Source)
			require.NoError(t, err, name)
			mounts[v.Source] = v.Target
		}
		for _, p := range s.Ports {
			require.Equal(t, "127.0.0.1", p.HostIP, "%s is open to the network", name)
		}
		if s.Build != nil {
			require.Equal(t, "Dockerfile", s.Build.Dockerfile)
			continue
		}
		require.Regexp(t, `:v?\d+\.\d+`, s.Image, "%s is pinned", name)
	}
	ok, out := accepted(t, append(project.Services["promkeep"].Command, "--web.listen-address=127.0.0.1:0"))
	require.True(t, ok, out)

	reaches := func(address, where string) {
		t.Helper()
		u, err := url.Parse(address)
		require.NoError(t, err)
		require.Contains(t, project.Services, u.Hostname(), where)
		if u.Hostname() == "promkeep" {
			require.Equal(t, "9201", u.Port(), where)
		}
	}
	env := project.Services["promkeep"].Environment["PROMKEEP_DB_URI"]
	require.NotNil(t, env)
	reaches(*env, "PROMKEEP_DB_URI")

	clusters := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(root, "deploy", "prometheus", "*.yml"))
	require.NoError(t, err)
	for _, f := range files {
		out, err := exec.Command("promtool", "check", "config", f).CombinedOutput()
		require.NoError(t, err, "%s", out)
		var config struct {
			Global struct {
				ExternalLabels map[string]string `json:"external_labels"`
			} `json:"global"`
			RemoteWrite []struct {
				URL string `json:"url"`
			} `json:"remote_write"`
			RuleFiles     []string `json:"rule_files"`
			ScrapeConfigs []struct {
				StaticConfigs []struct {
					Targets []string `json:"targets"`
				} `json:"static_configs"`
			} `json:"scrape_configs"`
		}
		read(t, f, &config)
		clusters[config.Global.ExternalLabels["cluster"]] = true
		require.Len(t, config.RemoteWrite, 1)
		reaches(config.RemoteWrite[0].URL, f)
		for _, job := range config.ScrapeConfigs {
			for _, target := range job.StaticConfigs[0].Targets {
				if !strings.HasPrefix(target, "localhost:") {
					reaches("http://"+target, f)
				}
			}
		}
		for _, rules := range config.RuleFiles {
			require.Contains(t, mounts, sourceOf(mounts, path.Dir(rules)))
		}
	}
	require.Equal(t, map[string]bool{"alpha": true, "beta": true}, clusters)

	var datasources struct {
		Datasources []struct{ URL string }
	}
	read(t, filepath.Join(root, "deploy/grafana/provisioning/datasources/promkeep.yaml"), &datasources)
	require.Len(t, datasources.Datasources, 1)
	reaches(datasources.Datasources[0].URL, "the datasource")
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, filepath.Join(root, "deploy/grafana/provisioning/dashboards/promkeep.yaml"), &providers)
	source := sourceOf(mounts, providers.Providers[0].Options.Path)
	dashboards, err := filepath.Glob(filepath.Join(source, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, dashboards)
}

func sourceOf(mounts map[string]string, target string) string {
	for s, to := range mounts {
		if to == target {
			return s
		}
	}
	return ""
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(b, into), file)
}

// TestUnit: systemd takes the unit, with the real binary in its place, finds it hardened, and promkeep takes its command line.
func TestUnit(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "deploy", "promkeep.service"))
	require.NoError(t, err)
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.*)$`).FindSubmatch(b)
	require.NotNil(t, start)
	args := strings.Fields(string(start[2]))
	i := slices.Index(args, "$PROMKEEP_ARGS")
	require.GreaterOrEqual(t, i, 0)
	// The example in the unit's own comment.
	example := regexp.MustCompile(`PROMKEEP_ARGS="([^"]+)"`).FindSubmatch(b)
	require.NotNil(t, example)
	args = slices.Replace(args, i, i+1, strings.Fields(string(example[1]))...)
	ok, out := accepted(t, append(args, "--web.listen-address=127.0.0.1:0"))
	require.True(t, ok, out)
	require.Contains(t, string(b), "StateDirectory=promkeep\n", "--data-dir is /var/lib/promkeep")
	require.Contains(t, args, "--data-dir=/var/lib/promkeep")

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	unit := filepath.Join(t.TempDir(), "promkeep.service")
	require.NoError(t, os.WriteFile(unit, bytes.Replace(b, start[1], []byte(binary), 1), 0o644))
	verified, err := exec.Command(analyze, "verify", unit).CombinedOutput()
	require.NoError(t, err, "%s", verified)
	require.NotContains(t, string(verified), "promkeep.service:", "systemd warns")
	secure, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	require.NoError(t, err, "exposed by more than 2.0\n%s", secure)
}
