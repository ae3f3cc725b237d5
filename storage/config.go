package storage

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promkeep/promkeep/schema"
)

// DefaultTenant owns all series when tenancy is not configured.
const DefaultTenant = "default"

// Config of a DB. URI is required; zero values mean the defaults that are noted.
type Config struct {
	URI         string // of the database, as pgx takes it
	TimescaleDB schema.TimescaleDBMode

	Retention      time.Duration   // samples older than this are dropped in whole days; 90 d
	RetentionRules []RetentionRule // exceptions from Retention: the first that matches a series counts
	RetentionSize  int64           // bytes on disk above which the oldest days are dropped; 0 is no bound
	FlushInterval  time.Duration   // how long samples wait in the log; 10 min
	CacheWindow    time.Duration   // how much of the past is kept in memory; 2 h
	CacheBytes     int64           // bound of the packed rows kept in memory; 1 GiB
	HeadBytes      int64           // bound of unflushed samples in memory, above which writes are refused; 2 GiB
	QueueBytes     int             // bound of what waits for a commit; 64 MiB
	MaxConns       int32           // connections to the database beside the log's; 10
	MaxTenants     int             // tenants there may be before writes for new ones are refused; 0 is no limit

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now tells the time; time.Now if nil.
	Now func() time.Time
	// NoMaintenance leaves flush, merge and retention to calls of Flush and Maintain.
	NoMaintenance bool
}

func (c Config) withDefaults() Config {
	def(&c.TimescaleDB, schema.TimescaleDBAuto)
	def(&c.Retention, 90*24*time.Hour)
	def(&c.FlushInterval, 10*time.Minute)
	def(&c.CacheWindow, 2*time.Hour)
	def(&c.CacheBytes, 1<<30)
	def(&c.HeadBytes, 2<<30)
	def(&c.QueueBytes, 64<<20)
	def(&c.MaxConns, 10)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
