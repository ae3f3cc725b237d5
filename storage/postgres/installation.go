package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest PostgreSQL major version promkeep works with.
const MinMajor = 15

// debianBinDirs is where Debian and its relatives keep the binaries of each major version. They are not in PATH.
const debianBinDirs = "/usr/lib/postgresql/*/bin"

// ErrNoInstallation is what Find's error wraps when no usable PostgreSQL server is installed.
var ErrNoInstallation = errors.New("no usable PostgreSQL server found")

// Installation is a set of PostgreSQL server binaries.
type Installation struct {
	BinDir   string // holds postgres and initdb
	LibDir   string // pkglibdir, where loadable modules are
	ShareDir string // sharedir, where extension control files are
	Version  string // as the server says it, such as "15.20"
	Major    int    // such as 15

	// HasTimescaleDB says that this server can preload TimescaleDB and create the extension.
	HasTimescaleDB bool
}

// Find returns the PostgreSQL server to use. An explicit binDir is used or refused, nothing else is tried then.
// Otherwise the newest server of at least MinMajor wins among the one pg_config points to, Debian's
// /usr/lib/postgresql/*/bin and the one in PATH. The error of a failed search wraps ErrNoInstallation, lists what
// was looked at and says how to install a server.
func Find(binDir string) (Installation, error) {
	if binDir != "" {
		inst, err := inspect(binDir)
		if err != nil {
			return Installation{}, fmt.Errorf("%w in the given directory: %w", ErrNoInstallation, err)
		}
		if inst.Major < MinMajor {
			return Installation{}, fmt.Errorf("%w: %s is PostgreSQL %s, but promkeep needs %d or later",
				ErrNoInstallation, binDir, inst.Version, MinMajor)
		}
		return inst, nil
	}
	return defaultSearch().newest()
}

// FindAll returns every usable server on the machine (those Find chooses from), newest first.
func FindAll() []Installation {
	found, _ := defaultSearch().all()
	return found
}

// search is where servers are looked for; tests narrow it.
type search struct {
	pgConfig string // program name or path; "" looks nowhere
	glob     string // pattern of bin directories
	path     string // PATH-like list
}

func defaultSearch() search {
	return search{pgConfig: "pg_config", glob: debianBinDirs, path: os.Getenv("PATH")}
}

func (s search) newest() (Installation, error) {
	found, looked := s.all()
	if len(found) > 0 {
		return found[0], nil
	}
	return Installation{}, fmt.Errorf("%w (%d or later is needed); looked at:\n\t%s\n"+
		"install one (on Debian and Ubuntu: apt-get install postgresql), name its binaries' directory with "+
		"--postgres.bin-dir, or use a running server with --db.uri",
		ErrNoInstallation, MinMajor, strings.Join(looked, "\n\t"))
}

// all returns the usable servers, newest first, and a line for every place looked at.
func (s search) all() (found []Installation, looked []string) {
	seen := map[string]bool{}
	try := func(how, dir string) {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil && seen[real] {
			return
		}
		seen[real] = true
		inst, err := inspect(dir)
		switch {
		case err != nil:
			looked = append(looked, fmt.Sprintf("%s: %s", how, err))
		case inst.Major < MinMajor:
			looked = append(looked, fmt.Sprintf("%s: %s is PostgreSQL %s, which is too old", how, dir, inst.Version))
		default:
			found = append(found, inst)
			looked = append(looked, fmt.Sprintf("%s: %s is PostgreSQL %s", how, dir, inst.Version))
		}
	}

	if s.pgConfig != "" {
		if out, err := exec.Command(s.pgConfig, "--bindir").Output(); err != nil {
			looked = append(looked, fmt.Sprintf("pg_config --bindir: %s", err))
		} else {
			try("pg_config --bindir", strings.TrimSpace(string(out)))
		}
	}
	dirs, _ := filepath.Glob(s.glob)
	if len(dirs) == 0 {
		looked = append(looked, s.glob+": no such directory")
	}
	for _, dir := range dirs {
		try(s.glob, dir)
	}
	inPath := false
	for _, dir := range filepath.SplitList(s.path) {
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			inPath = true
			try("PATH", dir)
		}
	}
	if !inPath {
		looked = append(looked, "PATH: no program \"postgres\"")
	}
	slices.SortStableFunc(found, func(a, b Installation) int { return b.Major - a.Major })
	return found, looked
}

var versionOutput = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect reads an installation from its directory of binaries.
func inspect(binDir string) (Installation, error) {
	binDir, err := filepath.Abs(binDir)
	if err != nil {
		return Installation{}, err
	}
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(binDir, program)); err != nil {
			// pg_config without a server is the common case: libpq's development package brings it.
			return Installation{}, fmt.Errorf("%s has no program %q (is the server package installed?)", binDir, program)
		}
	}
	out, err := exec.Command(filepath.Join(binDir, "postgres"), "--version").Output()
	if err != nil {
		return Installation{}, fmt.Errorf("%s/postgres --version: %w", binDir, err)
	}
	m := versionOutput.FindStringSubmatch(string(out))
	if m == nil {
		return Installation{}, fmt.Errorf("%s/postgres --version says %q, which is no PostgreSQL version", binDir, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Installation{}, fmt.Errorf("%s/postgres --version: %w", binDir, err)
	}
	inst := Installation{BinDir: binDir, Version: m[1], Major: major}
	inst.LibDir = inst.configDir("--pkglibdir", filepath.Join(binDir, "..", "lib"))
	inst.ShareDir = inst.configDir("--sharedir", filepath.Join(binDir, "..", "share"))
	inst.HasTimescaleDB = exists(filepath.Join(inst.LibDir, "timescaledb.so")) &&
		exists(filepath.Join(inst.ShareDir, "extension", "timescaledb.control"))
	return inst, nil
}

// configDir asks the installation's own pg_config, which a minimal server package may lack, for a directory.
func (inst Installation) configDir(flag, otherwise string) string {
	out, err := exec.Command(filepath.Join(inst.BinDir, "pg_config"), flag).Output()
	if dir := strings.TrimSpace(string(out)); err == nil && dir != "" {
		return dir
	}
	return filepath.Clean(otherwise)
}

// program is the path of one of the installation's programs.
func (inst Installation) program(name string) string { return filepath.Join(inst.BinDir, name) }

// supports says whether the server accepts a value for a setting, which depends on how it was built. clusterDir must
// be an existing directory; no file in it is read.
func (inst Installation) supports(ctx context.Context, as account, clusterDir, setting, value string) bool {
	cmd := exec.CommandContext(ctx, inst.program("postgres"),
		"-C", setting, "-c", setting+"="+value, "-c", "config_file="+os.DevNull, "-D", clusterDir)
	cmd.Env = serverEnv()
	cmd.SysProcAttr = as.attr()
	return cmd.Run() == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
