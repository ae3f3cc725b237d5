package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v2"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/adapter/tenancy"
)

// limitFlags are the limits of each tenant: the same for all, and others for some in a file that is read again on SIGHUP.
type limitFlags struct {
	all  adapter.TenantLimits
	file string

	overrides atomic.Pointer[map[string]adapter.TenantLimits]

	reloaded   prometheus.Gauge
	reloadedAt prometheus.Gauge
}

func (f *limitFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("limits.samples-per-second", "Samples and exemplars that a tenant may write per second, on average; past it requests get 429. 0 is any number.").Default("0").Float64Var(&f.all.SamplesPerSecond)
	cmd.Flag("limits.samples-burst", "Samples and exemplars that a tenant may write at once. 0 is what --limits.samples-per-second lets through in ten seconds.").Default("0").Int64Var(&f.all.SamplesBurst)
	cmd.Flag("limits.active-series", "Series of a tenant that are in memory, which is where they are for some hours after their last sample; samples of further ones get 400, the rest of their request is stored. 0 is any number.").Default("0").IntVar(&f.all.ActiveSeries)
	cmd.Flag("limits.file", "YAML file with other limits for some tenants, read again on SIGHUP: under overrides, by tenant, any of samples_per_second, samples_burst and active_series.").StringVar(&f.file)
}

// open reads the file, which must be good, and registers metrics.
func (f *limitFlags) open(reg prometheus.Registerer) error {
	if err := checkLimits(f.all); err != nil {
		return fmt.Errorf("--limits.*: %w", err)
	}
	f.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{Name: "promkeep_limits_last_reload_successful",
		Help: "1 if there is no --limits.file, or it could be read when that was last tried. If not, what it said before holds."})
	f.reloadedAt = prometheus.NewGauge(prometheus.GaugeOpts{Name: "promkeep_limits_last_reload_success_timestamp_seconds",
		Help: "When --limits.file was last read with success."})
	reg.MustRegister(f.reloaded, f.reloadedAt)
	if f.file == "" {
		f.reloaded.Set(1)
		return nil
	}
	return f.read()
}

// of returns the limits of a tenant.
func (f *limitFlags) of(tenant string) adapter.TenantLimits {
	if m := f.overrides.Load(); m != nil {
		if l, ok := (*m)[tenant]; ok {
			return l
		}
	}
	return f.all
}

func (f *limitFlags) read() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("--limits.file: %w", err)
			f.reloaded.Set(0)
			return
		}
		f.reloaded.Set(1)
		f.reloadedAt.SetToCurrentTime()
	}()
	file, err := os.Open(f.file)
	if err != nil {
		return err
	}
	defer file.Close()
	overrides, err := readLimits(file, f.all)
	if err != nil {
		return fmt.Errorf("%s: %w", f.file, err)
	}
	f.overrides.Store(&overrides)
	return nil
}

// readLimits reads the overrides of a limits file. What a tenant has no entry for is as in all.
func readLimits(r io.Reader, all adapter.TenantLimits) (map[string]adapter.TenantLimits, error) {
	var file struct {
		Overrides map[string]struct {
			SamplesPerSecond *float64 `yaml:"samples_per_second"`
			SamplesBurst     *int64   `yaml:"samples_burst"`
			ActiveSeries     *int     `yaml:"active_series"`
		} `yaml:"overrides"`
	}
	d := yaml.NewDecoder(r)
	d.SetStrict(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	out := make(map[string]adapter.TenantLimits, len(file.Overrides))
	for tenant, o := range file.Overrides {
		l := all
		if o.SamplesPerSecond != nil {
			l.SamplesPerSecond = *o.SamplesPerSecond
		}
		if o.SamplesBurst != nil {
			l.SamplesBurst = *o.SamplesBurst
		}
		if o.ActiveSeries != nil {
			l.ActiveSeries = *o.ActiveSeries
		}
		if err := errors.Join(tenancy.Check(tenant), checkLimits(l)); err != nil {
			return nil, fmt.Errorf("overrides of %q: %w", tenant, err)
		}
		out[tenant] = l
	}
	return out, nil
}

func checkLimits(l adapter.TenantLimits) error {
	if !(l.SamplesPerSecond >= 0) || math.IsInf(l.SamplesPerSecond, 0) || l.SamplesBurst < 0 || l.ActiveSeries < 0 {
		return errors.New("a limit is not negative, and 0 is no limit")
	}
	return nil
}

// follow reads the file again whenever the process gets SIGHUP, until ctx ends.
func (f *limitFlags) follow(ctx context.Context, logger *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		if f.file == "" {
			logger.Info("SIGHUP: there is no --limits.file to read again")
		} else if err := f.read(); err != nil {
			logger.Error("SIGHUP: the limits stay as they are", "err", err)
		} else {
			logger.Info("SIGHUP: the limits were read again", "file", f.file, "tenants", len(*f.overrides.Load()))
		}
	}
}
