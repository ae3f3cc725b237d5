package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v2"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/adapter/tenancy"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/catalogue"
)

// writeFlags are the flags of everything that writes.
type writeFlags struct {
	maxBody, maxDecoded, maxInFlight units.Base2Bytes
	maxLabels, maxName, maxValue     int
	maxFuture                        model.Duration
	relabel                          string
}

func (w *writeFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("write.max-request-size", "Bytes of one remote-write request as it arrives; a larger one gets 413.").Default("32MiB").BytesVar(&w.maxBody)
	cmd.Flag("write.max-decoded-size", "Bytes of one remote-write request when decompressed; a larger one gets 413.").Default("64MiB").BytesVar(&w.maxDecoded)
	cmd.Flag("write.max-in-flight-size", "Bytes of all remote-write requests at once; past it one gets 503.").Default("256MiB").BytesVar(&w.maxInFlight)
	cmd.Flag("write.max-labels", "Labels of one series.").Default("128").IntVar(&w.maxLabels)
	cmd.Flag("write.max-label-name-length", "Bytes of a label name.").Default("512").IntVar(&w.maxName)
	cmd.Flag("write.max-label-value-length", "Bytes of a label value, at most 2048.").Default("2048").IntVar(&w.maxValue)
	cmd.Flag("storage.max-future", "How far in the future a sample may be; 0 is any.").Default("10m").SetValue(&w.maxFuture)
	cmd.Flag("write.relabel-config.file", "File with a list of Prometheus relabel configs that every series written goes through.").StringVar(&w.relabel)
}

func (w *writeFlags) handler(db *storage.DB, policy *tenancy.Policy, limits func(string) adapter.TenantLimits, logger *slog.Logger, registry *prometheus.Registry) (http.Handler, error) {
	rules, err := relabelConfigs(w.relabel)
	if err != nil {
		return nil, err
	}
	future := time.Duration(w.maxFuture)
	if future == 0 {
		future = -1
	}
	return adapter.NewWriteHandler(adapter.NewStore(db), adapter.Options{
		Limits: adapter.Limits{
			BodyBytes:       int64(w.maxBody),
			DecodedBytes:    int64(w.maxDecoded),
			InFlightBytes:   int64(w.maxInFlight),
			Labels:          w.maxLabels,
			LabelNameBytes:  w.maxName,
			LabelValueBytes: min(w.maxValue, catalogue.MaxLabelValue),
		},
		MaxFuture:    future,
		Tenancy:      policy,
		TenantLimits: limits,
		Relabel:      rules,
		Logger:       logger.With("component", "adapter"),
		Registerer:   registry,
	}), nil
}

// relabelConfigs reads a file with a list of relabel configs, in the format of Prometheus' write_relabel_configs.
func relabelConfigs(path string) ([]*relabel.Config, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--write.relabel-config.file: %w", err)
	}
	var rules []*relabel.Config
	if err := yaml.UnmarshalStrict(raw, &rules); err != nil {
		return nil, fmt.Errorf("--write.relabel-config.file %s: %w", path, err)
	}
	for i, r := range rules {
		if r == nil {
			return nil, fmt.Errorf("--write.relabel-config.file %s: entry %d is empty", path, i+1)
		}
		if err := r.Validate(model.UTF8Validation); err != nil {
			return nil, fmt.Errorf("--write.relabel-config.file %s: entry %d: %w", path, i+1, err)
		}
	}
	return rules, nil
}
