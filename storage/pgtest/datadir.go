package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/promkeep/promkeep/storage/postgres"
)

const (
	// timescaleTemplate is a database with TimescaleDB in it: copying it is faster than creating the extension.
	timescaleTemplate = "pgtest_timescaledb"

	// templateFormat changes whenever a data directory made by an older version of this package would not do.
	templateFormat = 1

	prefix = "promkeep-pgtest-"
)

// installations lists the servers to test on, one per major version, the default one first.
var installations = sync.OnceValues(func() ([]postgres.Installation, error) {
	dirs := filepath.SplitList(os.Getenv("PROMKEEP_TEST_PG_BIN"))
	if dir := os.Getenv("PROMKEEP_TEST_PG18_BIN"); dir != "" {
		dirs = append(dirs, dir)
	}
	if root := moduleRoot(); root != "" {
		cached, err := filepath.Glob(filepath.Join(root, ".cache", "postgres-*", "bin"))
		if err != nil {
			return nil, err
		}
		for _, dir := range cached {
			if dir, err = reachable(dir); err != nil {
				return nil, fmt.Errorf("copying a server to where its user can get in: %w", err)
			}
			dirs = append(dirs, dir)
		}
	}
	list := postgres.FindAll()
	for _, dir := range dirs {
		inst, err := postgres.Find(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, inst)
	}
	if len(list) == 0 {
		_, err := postgres.Find("")
		return nil, err
	}
	seen := map[int]bool{}
	var distinct []postgres.Installation
	for _, inst := range list {
		if !seen[inst.Major] {
			seen[inst.Major] = true
			distinct = append(distinct, inst)
		}
	}
	return distinct, nil
})

// moduleRoot is the directory of the go.mod that governs the working directory, "" outside of a module.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// newDataDir makes a data directory with a cluster in it, copied from a cached one: initdb and creating TimescaleDB
// take seconds, the copy does not. Its name carries our process ID, so that what a killed test left can be removed.
func newDataDir(inst postgres.Installation, parent string) (dir string, err error) {
	sweepOnce.Do(sweep)
	template, err := templateFor(inst)
	if err != nil {
		return "", fmt.Errorf("making a template cluster: %w", err)
	}
	dir, err = os.MkdirTemp(parent, prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	// The server may run as another user, who must be able to get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return dir, copyTree(postgres.ClusterDir(template), postgres.ClusterDir(dir))
}

func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying a cluster: %w: %s", err, out)
	}
	return nil
}

// tempDir is os.TempDir, unless its path is so private that a server run as another user cannot get in.
func tempDir() string {
	if dir := os.TempDir(); !private(dir) {
		return dir
	}
	return "/tmp"
}

const (
	memoryDir  = "/dev/shm"
	memoryFree = 8 << 30 // bytes; all shared servers of two packages together take less than one GiB
	tmpfsMagic = 0x01021994
)

// volatileDir is where the files of the shared servers are, which do not wait for the disk: in memory if there is plenty, since databases are
// made and dropped faster there. TMPDIR says otherwise.
var volatileDir = sync.OnceValue(func() string {
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || private(memoryDir) || syscall.Statfs(memoryDir, &fs) != nil || int64(fs.Type) != tmpfsMagic {
		return tempDir()
	}
	if min(fs.Bavail*uint64(fs.Bsize), memoryAvailable()) < memoryFree {
		return tempDir()
	}
	return memoryDir
})

// memoryAvailable is what the machine has for new programs, in bytes; 0 if it does not tell.
func memoryAvailable() uint64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// private tells whether a server, which is run as another user if this is root, cannot get into the directory.
func private(dir string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		if err != nil || fi.Mode().Perm()&0o001 == 0 {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

// reachable returns the directory of server binaries, or that of a copy of the server if the directory is private.
func reachable(binDir string) (string, error) {
	if !private(binDir) {
		return binDir, nil
	}
	inst, err := postgres.Find(binDir)
	if err != nil {
		return "", err
	}
	parent, unlock, err := lockTemplates()
	if err != nil {
		return "", err
	}
	defer unlock()
	server := filepath.Join(parent, "server-"+inst.Version)
	if _, err := os.Stat(server); err != nil {
		temp := server + ".new"
		if err := errors.Join(os.RemoveAll(temp), copyTree(filepath.Dir(binDir), temp), os.Chmod(temp, 0o755), os.Rename(temp, server)); err != nil {
			return "", err
		}
	}
	return filepath.Join(server, filepath.Base(binDir)), nil
}

// lockTemplates returns the directory of what test runs share. Until unlock is called it is this test binary's: those of
// several packages run at once.
func lockTemplates() (parent string, unlock func(), err error) {
	parent = filepath.Join(tempDir(), prefix+"templates-"+strconv.Itoa(os.Geteuid()))
	if err := os.Mkdir(parent, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", nil, err
	}
	fi, err := os.Lstat(parent)
	if err != nil {
		return "", nil, err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || !fi.IsDir() || int(st.Uid) != os.Geteuid() {
		return "", nil, fmt.Errorf("%s belongs to somebody else", parent)
	}
	lock, err := os.OpenFile(filepath.Join(parent, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		lock.Close()
		return "", nil, err
	}
	return parent, func() { lock.Close() }, nil
}

// templateFor returns a stopped data directory for an installation, making it if no earlier test run has.
func templateFor(inst postgres.Installation) (string, error) {
	name, err := templateName(inst)
	if err != nil {
		return "", err
	}
	parent, unlock, err := lockTemplates()
	if err != nil {
		return "", err
	}
	defer unlock()
	template := filepath.Join(parent, name)
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	temp := template + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return "", err
	}
	if err := makeTemplate(inst, temp); err != nil {
		return "", err
	}
	return template, os.Rename(temp, template)
}

// templateName tells apart what a template depends on: the exact server and TimescaleDB.
func templateName(inst postgres.Installation) (string, error) {
	name := fmt.Sprintf("%d-%s", templateFormat, inst.Version)
	if inst.HasTimescaleDB {
		control, err := os.ReadFile(filepath.Join(inst.ShareDir, "extension", "timescaledb.control"))
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(control)) {
			if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) == "default_version" {
				name += "-timescaledb-" + strings.Trim(strings.TrimSpace(value), "'")
			}
		}
	}
	return name, nil
}

func makeTemplate(inst postgres.Installation, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	srv, err := postgres.Start(ctx, postgres.Options{DataDir: dir, BinDir: inst.BinDir, Logger: logger(), Settings: sharedSettings()})
	if err != nil {
		return err
	}
	if inst.HasTimescaleDB {
		err = execAt(ctx, srv.DatabaseURI(postgres.Superuser, "postgres"), "CREATE DATABASE "+timescaleTemplate+" TEMPLATE template0 OWNER promkeep")
		if err == nil {
			err = execAt(ctx, srv.DatabaseURI(postgres.Superuser, timescaleTemplate), "CREATE EXTENSION timescaledb")
		}
		// TimescaleDB's scheduler connects to every database with the extension; a template must have no sessions.
		if err == nil {
			err = execAt(ctx, srv.DatabaseURI(postgres.Superuser, "postgres"), "ALTER DATABASE "+timescaleTemplate+" WITH ALLOW_CONNECTIONS false")
		}
	}
	return errors.Join(err, srv.Stop(ctx))
}

var sweepOnce sync.Once

// sweep removes data directories of test processes that were killed. Their servers were shut down by the kernel's
// signal, see postgres.Start.
func sweep() {
	var dirs []string
	for _, parent := range []string{tempDir(), memoryDir} {
		found, err := filepath.Glob(filepath.Join(parent, prefix+"[0-9]*-*"))
		if err != nil {
			return
		}
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		_ = os.RemoveAll(dir) // another user's stays; so does what cannot be removed, until the next time
	}
}
