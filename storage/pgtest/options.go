package pgtest

import "maps"

type options struct {
	allEditions bool
	oneByOne    bool
	empty       bool
	edition     edition
	settings    map[string]string
}

// Option changes what Run, New and NewServer make.
type Option func(*options)

// AllEditions makes Run also run TimescaleDB's Apache-only edition, which has hypertables but no columnstore.
func AllEditions(o *options) { o.allEditions = true }

// OneByOne makes Run test one kind of database after the other: for tests that make what all databases of a server share, such as roles.
func OneByOne(o *options) { o.oneByOne = true }

// Empty makes Run and New create databases in which there is nothing, whatever M.Fill puts into others: for tests of migrations.
func Empty(o *options) { o.empty = true }

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
