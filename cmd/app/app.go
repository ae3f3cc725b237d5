package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"

	"github.com/promkeep/promkeep/cmd/bench"
)

// Main runs the command line, without the name of the program, and returns the exit status: 0, 1 after an error that was
// logged, 2 for a wrong command line.
func Main(args []string) int {
	a := kingpin.New("promkeep", "The long-term, multi-cluster home for Prometheus metrics in PostgreSQL.")
	a.UsageWriter(os.Stdout)
	a.HelpFlag.Short('h')
	a.Version(version.Print("promkeep"))
	logCfg := &promslog.Config{Style: promslog.GoKitStyle}
	promslogflag.AddFlags(a, logCfg)

	serve := newServe(a)
	migrate := newMigrate(a)
	imports := newImport(a)
	benches := bench.New(a)

	command, err := a.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "promkeep: %s, try --help\n", err)
		return 2
	}
	logger := promslog.New(logCfg)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch command {
	case serve.name:
		serve.flags = values(a, serve.name)
		limitMemory(logger)
		err = serve.run(ctx, logger)
	case migrate.name:
		err = migrate.run(ctx, logger)
	case imports.blocks, imports.openMetrics, imports.remoteRead:
		limitMemory(logger)
		err = imports.run(ctx, command, logger)
	default:
		_, err = benches.Run(ctx, command, logger)
	}
	if err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		logger.Error("promkeep ends", "err", err)
		return 1
	}
	return 0
}

// values returns the flags of a command by name, for people to see; whoever shows them redacts secrets.
func values(a *kingpin.Application, command string) map[string]string {
	out := map[string]string{}
	add := func(flags []*kingpin.FlagModel) {
		for _, f := range flags {
			if f.Name != "help" && f.Name != "version" {
				out[f.Name] = f.Value.String()
			}
		}
	}
	add(a.Model().Flags)
	for _, c := range a.Model().Commands {
		if c.Name == command {
			add(c.Flags)
		}
	}
	return out
}

// limitMemory lets the garbage collector know what the container or the machine has.
func limitMemory(logger *slog.Logger) {
	if _, err := memlimit.Set(memlimit.WithRatio(0.7),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem))); err != nil {
		logger.Debug("the memory limit of this machine cannot be told", "err", err)
	}
}

// absolute makes a path independent of the working directory.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", path, err)
	}
	return abs, nil
}
