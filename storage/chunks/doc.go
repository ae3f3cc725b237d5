// Package chunks keeps packed rows in PostgreSQL: freshly flushed rows in parts of the table recent, merged ones in day
// ranges of the table chunk, which are partitions on plain PostgreSQL and a hypertable on TimescaleDB.
//
// Rows move as whole parts, in order of series IDs and in small transactions. A reader's one statement sees every row in
// exactly one place.
//
// The package must not know the head, the log, or labels.
package chunks
