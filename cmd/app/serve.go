package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"golang.org/x/sync/errgroup"

	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/postgres"
)

// serve is the command that does the work.
type serve struct {
	name  string
	flags map[string]string // as given, for /api/v1/status/flags
	app   *kingpin.Application

	db  database
	web *web.FlagConfig

	retention     retentionFlags
	flushInterval model.Duration
	cacheWindow   model.Duration
	cacheSize     units.Base2Bytes
	headSize      units.Base2Bytes
	queueSize     units.Base2Bytes
	connections   int32

	tenancy tenancyFlags
	limits  limitFlags
	write   writeFlags
	query   queryFlags
	debug   debug
}

func newServe(a *kingpin.Application) *serve {
	s := &serve{app: a}
	cmd := a.Command("serve", "Take remote writes, and answer queries.")
	s.name = cmd.FullCommand()
	s.web = kingpinflag.AddFlags(cmd, ":9201")
	s.db.register(cmd)
	cmd.Flag("db.max-connections", "Connections to the database, beside the one that writes the log.").Default("10").Int32Var(&s.connections)
	s.retention.register(cmd)
	cmd.Flag("storage.flush-interval", "How long samples stay in the log before they are packed into rows, and so how old what SQL sees may be.").Default("10m").SetValue(&s.flushInterval)
	cmd.Flag("storage.head.cache-window", "How much of the past is kept in memory for queries.").Default("2h").SetValue(&s.cacheWindow)
	cmd.Flag("storage.head.cache-size", "Bound of the packed rows kept in memory.").Default("1GiB").BytesVar(&s.cacheSize)
	cmd.Flag("storage.head.max-size", "Bound of the samples in memory that wait for a flush; above it writes get 503.").Default("2GiB").BytesVar(&s.headSize)
	cmd.Flag("storage.log.queue-size", "Bound of what waits for a commit; above it writes get 503.").Default("64MiB").BytesVar(&s.queueSize)
	s.tenancy.register(cmd)
	s.limits.register(cmd)
	s.write.register(cmd)
	s.query.register(cmd)
	s.debug.register(cmd)
	return s
}

func (s *serve) run(ctx context.Context, logger *slog.Logger) error {
	logger.Info("starting promkeep", "version", version.Info(), "build", version.BuildContext())
	policy, err := s.tenancy.policy(*s.web.WebConfigFile)
	if err != nil {
		return err
	}
	// First of all the port: who finds it taken should not have started a database.
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("promkeep"))
	if err := s.limits.open(registry); err != nil {
		return err
	}

	front := newFront(registry)
	server := &http.Server{Handler: front.handler(logger), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		collectSooner(ctx, 10*time.Second)
		return nil
	})
	group.Go(func() error {
		s.limits.follow(ctx, logger)
		return nil
	})
	group.Go(func() error {
		var err error
		if *s.web.WebSystemdSocket {
			err = web.ListenAndServe(server, s.web, logger)
		} else {
			err = web.ServeMultiple(listeners, server, s.web, logger)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	group.Go(func() error {
		err := s.store(ctx, logger, front, policy, func() {
			stopCtx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := server.Shutdown(stopCtx); err != nil {
				logger.Warn("some requests did not end in time", "err", err)
				server.Close()
			}
		})
		server.Close()
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	logger.Info("promkeep has stopped")
	return nil
}

// store runs database and storage until ctx ends, then stops requests with drain, then itself.
func (s *serve) store(ctx context.Context, logger *slog.Logger, front *front, policy *tenancy.Policy, drain func()) error {
	registry := front.registry
	rules, err := s.retention.all()
	if err != nil {
		return err
	}
	uri, server, err := s.db.open(ctx, logger)
	if err != nil {
		return err
	}
	if server != nil {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "promkeep_postgres_restarts_total", Help: "Times the embedded PostgreSQL had to be started again.",
		}, func() float64 { return float64(server.Restarts()) }))
		defer stopPostgres(server, logger)
	}
	db, err := storage.Open(ctx, storage.Config{
		URI:            uri.Value,
		TimescaleDB:    s.db.mode(),
		Retention:      time.Duration(s.retention.time),
		RetentionRules: rules,
		RetentionSize:  int64(s.retention.size),
		FlushInterval:  time.Duration(s.flushInterval),
		CacheWindow:    time.Duration(s.cacheWindow),
		CacheBytes:     int64(s.cacheSize),
		HeadBytes:      int64(s.headSize),
		QueueBytes:     int(s.queueSize),
		MaxConns:       s.connections,
		MaxTenants:     s.tenancy.maxTenants,
		Logger:         logger.With("component", "storage"),
		Registerer:     registry,
		Now:            s.debug.time,
		NoMaintenance:  s.debug.clock,
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := db.Close(); err != nil {
			logger.Error("closing the storage", "err", err)
		}
	}()
	write, err := s.write.handler(db, policy, s.limits.of, logger, registry)
	if err != nil {
		return err
	}
	query, err := s.query.handler(db, s.flags, s.retention.String(), logger, registry)
	if err != nil {
		return err
	}
	front.open(db, s.debug.handler(db, routes(write, policy.Middleware(query), policy.Single(query))))
	logger.Info("promkeep is ready", "database", uri.String())
	if server != nil {
		fmt.Fprint(os.Stderr, banner((*s.web.WebListenAddresses)[0]))
	}
	select {
	case <-ctx.Done():
	case err = <-db.Fatal():
	}
	drain()
	return err
}

func stopPostgres(server *postgres.Server, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		logger.Error("the embedded PostgreSQL did not stop cleanly", "err", err)
	}
}

func (s *serve) listen() ([]net.Listener, error) {
	if *s.web.WebSystemdSocket {
		return nil, nil
	}
	var out []net.Listener
	for _, address := range *s.web.WebListenAddresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s; is another promkeep running? --web.listen-address chooses another port: %w", address, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// banner tells a first-time user what to do next.
func banner(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return ""
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	url := "http://" + net.JoinHostPort(host, port)
	return `
promkeep is ready at ` + url + `

  In prometheus.yml of each cluster:

    global:
      external_labels:
        cluster: my-cluster        # another one in each cluster
    remote_write:
      - url: ` + url + `/api/v1/write

  In Grafana: a Prometheus datasource with the URL ` + url + `

`
}
