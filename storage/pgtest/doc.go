// Package pgtest gives tests real PostgreSQL databases.
//
// All tests of a test binary share one server per PostgreSQL installation; it starts with the first test that needs
// it. A package whose tests use it ends them through Main:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Run runs a test body against every kind of database promkeep supports and that is on the machine: plain PostgreSQL
// of each installed version, and TimescaleDB. New makes one plain database. NewServer starts a server of its own,
// with everything that production has for durability, for tests that kill it.
//
// The shared servers differ from production in one way that no test can see unless the machine loses power: they do
// not wait for the disk (fsync and full_page_writes are off). Commits still survive a kill -9 of every process.
//
// Without an installed PostgreSQL server these tests fail: a test that is skipped where it matters shows nothing.
//
// Environment: PROMKEEP_TEST_PG_BIN names directories of further server binaries, separated like PATH;
// PROMKEEP_TEST_PG18_BIN names one of PostgreSQL 18; .cache/postgres-*/bin below the module's root, where make
// deps-newest puts them, is looked at too.
// PROMKEEP_TEST_PG_LOG=1 writes the servers' logs to standard error. TMPDIR says where the servers' files are. Without
// it those of the shared servers are in /dev/shm if that has 8 GiB: databases are made and dropped faster there.
//
// The package must not know anything of promkeep's schema: databases come empty, or as a function of the package that is tested leaves them, see M.Fill.
package pgtest
