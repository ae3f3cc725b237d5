package pgtest

import "maps"

type options struct {
	allEditions bool
	parallel    bool
	edition     edition
	settings    map[string]string
}

// Option changes what Run, New and NewServer make.
type Option func(*options)

// AllEditions makes Run also run TimescaleDB's Apache-only edition, which has hypertables but no columnstore.
func AllEditions(o *options) { o.allEditions = true }

// Parallel makes Run test all kinds of databases at the same time, after what else the test does: for tests that wait more than they compute.
func Parallel(o *options) { o.parallel = true }

// WithTimescaleDB makes New create a database with TimescaleDB, and skip the test where no server has it.
func WithTimescaleDB(o *options) { o.edition = timescale }

// WithApacheTimescaleDB is WithTimescaleDB for the Apache-only edition. Databases on a server that NewServer started
// are of the edition that the server was started with.
func WithApacheTimescaleDB(o *options) { o.edition = timescaleApache }

// WithSettings overrides PostgreSQL settings of a server that NewServer starts.
func WithSettings(settings map[string]string) Option {
	return func(o *options) {
		if o.settings == nil {
			o.settings = map[string]string{}
		}
		maps.Copy(o.settings, settings)
	}
}

func collect(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
