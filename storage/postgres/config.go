package postgres

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/pbnjay/memory"
)

const (
	configFile  = "promkeep.conf"
	includeLine = "include = '" + configFile + "'"

	// logLinePrefix is what logs.go takes apart: process ID, SQLSTATE and, in sessions, user and database.
	logLinePrefix = "[%p] %e %q%u@%d "
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// machineMemory is the memory in bytes that this process may use: the machine's, or its control group's limit when
// that is lower.
func machineMemory() uint64 {
	total := memory.TotalMemory()
	if limit, err := memlimit.FromCgroup(); err == nil && limit > 0 && (total == 0 || limit < total) {
		return limit
	}
	return total
}

// machine is what the embedded server's configuration depends on.
type machine struct {
	memory uint64 // bytes that may be used
	devShm uint64 // size in bytes of the file system for POSIX shared memory, 0 if there is none or it is unknown
}

func thisMachine() machine {
	return machine{memory: machineMemory(), devShm: fileSystemSize("/dev/shm")}
}

func fileSystemSize(path string) uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0
	}
	return st.Blocks * uint64(st.Bsize)
}

// tunedSettings is the configuration of the embedded server. Whatever is not here is as PostgreSQL ships it. supports
// says whether the server, as it was built, takes a value.
func tunedSettings(on machine, maxConnections int, timescale bool, supports func(setting, value string) bool) map[string]string {
	mem := on.memory
	megabytes := func(bytes uint64) string { return fmt.Sprintf("%dMB", bytes/mib) }
	s := map[string]string{
		// Reached through the Unix socket only.
		"listen_addresses":        "",
		"unix_socket_permissions": "0700",
		"max_connections":         fmt.Sprint(maxConnections),

		// promkeep shares the machine with its server, and keeps recent samples in memory itself.
		"shared_buffers":       megabytes(clamp(mem/8, 128*mib, 2*gib)),
		"effective_cache_size": megabytes(clamp(mem/2, 256*mib, 64*gib)),
		"work_mem":             megabytes(clamp(mem/512, 4*mib, 64*mib)),
		"maintenance_work_mem": megabytes(clamp(mem/32, 64*mib, 512*mib)),

		// What promkeep acknowledges rests on these three.
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",

		// A page's first change after a checkpoint is logged in full: few, spread-out checkpoints keep the WAL small.
		"checkpoint_timeout":           "15min",
		"checkpoint_completion_target": "0.9",
		"max_wal_size":                 "4GB",
		"min_wal_size":                 "256MB",
		"wal_buffers":                  "16MB",
		"max_slot_wal_keep_size":       "4GB", // a forgotten replication slot must not fill the disk

		"random_page_cost":          "1.1", // an SSD
		"jit":                       "off", // costs more than it gains on short queries
		"max_locks_per_transaction": "256", // one query may touch many partitions
		"max_worker_processes":      "16",

		// Samples are appended, and dropped by the partition. What needs vacuuming is the catalogue: often, a little.
		"autovacuum":                     "on",
		"autovacuum_vacuum_scale_factor": "0.1",
		"autovacuum_vacuum_cost_limit":   "1000",

		"timezone":             "UTC",
		"log_timezone":         "UTC",
		"lc_messages":          "C", // logs.go reads severities
		"log_destination":      "stderr",
		"logging_collector":    "off",
		"log_line_prefix":      logLinePrefix,
		"log_lock_waits":       "on",
		"update_process_title": "on", // orphans.go recognises processes by their title

		"shared_preload_libraries": "",
	}
	for _, value := range []string{"lz4", "pglz"} {
		if supports("wal_compression", value) {
			s["wal_compression"] = value
			break
		}
	}
	for setting, value := range map[string]string{
		"effective_io_concurrency":         "200", // needs posix_fadvise before PostgreSQL 18
		"client_connection_check_interval": "1s",  // ends queries that nobody waits for any more; needs poll's POLLRDHUP
	} {
		if supports(setting, value) {
			s[setting] = value
		}
	}
	// Containers get 64 MB there unless told otherwise, and parallel queries then fail for lack of space.
	if on.devShm > 0 && on.devShm < gib {
		s["dynamic_shared_memory_type"] = "sysv"
	}
	if timescale {
		s["shared_preload_libraries"] = "timescaledb"
		s["timescaledb.telemetry_level"] = "off"
		s["timescaledb.max_background_workers"] = "4"
	}
	return s
}

func clamp(v, lo, hi uint64) uint64 { return min(max(v, lo), hi) }

// renderConfig writes settings as a PostgreSQL configuration file.
func renderConfig(settings map[string]string) (string, error) {
	var b strings.Builder
	b.WriteString("# Written by promkeep at every start: changes here are lost.\n" +
		"# Put settings of your own below the line that includes this file in postgresql.conf.\n")
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		value := settings[key]
		if strings.ContainsAny(value, "\n\r\x00") {
			return "", fmt.Errorf("setting %s: a value cannot have a line break or a zero byte", key)
		}
		value = strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `'`, `''`)
		fmt.Fprintf(&b, "%s = '%s'\n", key, value)
	}
	return b.String(), nil
}

// hba lets in whoever can reach the socket: its directory admits the server's own user and root, nobody else.
const hba = "# Written by promkeep at every start.\n" +
	"local all         all trust\n" +
	"local replication all trust\n"

// writeConfig puts the settings in place and makes postgresql.conf include them.
func writeConfig(clusterDir string, as account, settings map[string]string) error {
	conf, err := renderConfig(settings)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(clusterDir, configFile), conf, as); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(clusterDir, "pg_hba.conf"), hba, as); err != nil {
		return err
	}
	main := filepath.Join(clusterDir, "postgresql.conf")
	old, err := os.ReadFile(main)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(old)) {
		if strings.TrimSpace(line) == includeLine {
			return nil
		}
	}
	return writeFile(main, string(old)+"\n# promkeep's settings; later lines override them.\n"+includeLine+"\n", as)
}

// writeFile replaces a file in a directory of the account's, without ever following a link that is there.
func writeFile(path, content string, as account) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = as.own(f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
