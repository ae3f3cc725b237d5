package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Superuser is the bootstrap superuser of the embedded server.
const Superuser = "postgres"

// ClusterDir is where the PostgreSQL cluster of a promkeep data directory is.
func ClusterDir(dataDir string) string { return filepath.Join(dataDir, "postgres") }

// clusterMajor is the major version of the server that made the cluster, 0 when there is none yet.
func clusterMajor(clusterDir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(clusterDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(clusterDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if len(entries) > 0 {
			return 0, fmt.Errorf("%s is neither empty nor a PostgreSQL cluster: it has no file PG_VERSION", clusterDir)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION: %w", clusterDir, err)
	}
	return major, nil
}

// installationFor finds the server for a cluster: any for a new one, one of the same major version for an old one.
func installationFor(major int, clusterDir, binDir string) (Installation, error) {
	inst, err := Find(binDir)
	if err != nil || major == 0 || inst.Major == major {
		return inst, err
	}
	if binDir == "" {
		for _, other := range FindAll() {
			if other.Major == major {
				return other, nil
			}
		}
	}
	return Installation{}, fmt.Errorf("%s was made by PostgreSQL %d, but the server found is %s in %s: "+
		"install PostgreSQL %d (on Debian: apt-get install postgresql-%d) or name its binaries with --postgres.bin-dir; "+
		"to move the data to PostgreSQL %d, stop promkeep and use pg_upgrade, or pg_dump and pg_restore",
		clusterDir, major, inst.Version, inst.BinDir, major, major, inst.Major)
}

// initCluster makes a new cluster. It appears under its name only when it is complete and on disk, so a start that
// was killed leaves nothing half-made behind.
func initCluster(ctx context.Context, inst Installation, as account, clusterDir string, log *slog.Logger) error {
	temp := clusterDir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if err := as.own(temp); err != nil {
		return err
	}
	log.Info("Making a new PostgreSQL cluster", "dir", clusterDir, "version", inst.Version)
	cmd := exec.CommandContext(ctx, inst.program("initdb"), "-D", temp, "-U", Superuser,
		"--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=trust", "--no-instructions")
	cmd.Dir = filepath.Dir(clusterDir)
	cmd.Env = serverEnv()
	cmd.SysProcAttr = as.attr()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb for %s: %w\n%s", clusterDir, err, strings.TrimSpace(out.String()))
	}
	// An empty directory may be there, as a mount point's owner might have made it.
	if err := os.Remove(clusterDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temp, clusterDir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(clusterDir))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// clusterNameFor tells the processes of one data directory's server from those of another's.
func clusterNameFor(clusterDir string) string {
	sum := sha256.Sum256([]byte(clusterDir))
	return "promkeep-" + hex.EncodeToString(sum[:5])
}

// port is only part of the socket's name: nothing listens on TCP.
const port = 5432

var socketName = fmt.Sprintf(".s.PGSQL.%d", port)

// maxSocketPath is the longest path in bytes that fits struct sockaddr_un's sun_path.
func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// makeSocketDir returns a directory for the socket that only the account may enter: run/ in the data directory or,
// where that path is too long for a Unix socket or has a comma, a private directory under a short name elsewhere. A comma parts
// directories in PostgreSQL's setting, where it could be quoted, and hosts in clients' connection strings, where it cannot.
func makeSocketDir(dataDir, clusterName string, as account, log *slog.Logger) (string, error) {
	dir := filepath.Join(dataDir, "run")
	fits := func(dir string) bool {
		return len(filepath.Join(dir, socketName)) <= maxSocketPath() && !strings.Contains(dir, ",")
	}
	if fits(dir) {
		if exists(dir) { // it may be from a time when promkeep was started by another user
			if err := as.ownTree(dir); err != nil {
				return "", err
			}
		}
		return dir, privateDir(dir, as)
	}
	var failed []error
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		short := filepath.Join(parent, clusterName)
		if parent == "" || !fits(short) {
			continue
		}
		if err := privateDir(short, as); err != nil {
			failed = append(failed, err)
			continue
		}
		log.Warn("The data directory's path is too long for a Unix socket, or has a comma: PostgreSQL's socket is elsewhere",
			"socket_dir", short, "unfit", dir, "limit_bytes", maxSocketPath())
		return short, nil
	}
	return "", errors.Join(append(failed, fmt.Errorf("the path %s is longer than the %d bytes that a Unix socket may have, or has a comma, "+
		"and no short directory can be made instead: choose a data directory with a shorter path and no comma",
		filepath.Join(dir, socketName), maxSocketPath()))...)
}

// privateDir makes a directory that only the account may enter, or checks that one is there. Below a directory like
// /tmp anybody may have put something else in its place.
func privateDir(dir string, as account) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return as.own(dir)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := ownerOf(dir)
	switch {
	case !fi.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case owner == as.uid && fi.Mode().Perm() == 0o700:
		return nil
	case owner == as.uid || owner == os.Geteuid():
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		return as.own(dir)
	}
	return fmt.Errorf("%s belongs to another user (UID %d)", dir, owner)
}
