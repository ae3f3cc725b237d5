package app

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/promkeep/promkeep/adapter"
	"github.com/promkeep/promkeep/storage"
	"github.com/promkeep/promkeep/storage/catalogue"
)

// writeFlags are the flags of everything that writes.
type writeFlags struct {
	maxBody, maxDecoded, maxInFlight units.Base2Bytes
	maxLabels, maxName, maxValue     int
	maxFuture                        model.Duration
}

func (w *writeFlags) register(cmd *kingpin.CmdClause) {
	cmd.Flag("write.max-request-size", "Bytes of one remote-write request as it arrives; a larger one gets 413.").Default("32MiB").BytesVar(&w.maxBody)
	cmd.Flag("write.max-decoded-size", "Bytes of one remote-write request when decompressed; a larger one gets 413.").Default("64MiB").BytesVar(&w.maxDecoded)
	cmd.Flag("write.max-in-flight-size", "Bytes of all remote-write requests at once; past it one gets 503.").Default("256MiB").BytesVar(&w.maxInFlight)
	cmd.Flag("write.max-labels", "Labels of one series.").Default("128").IntVar(&w.maxLabels)
	cmd.Flag("write.max-label-name-length", "Bytes of a label name.").Default("512").IntVar(&w.maxName)
	cmd.Flag("write.max-label-value-length", "Bytes of a label value, at most 2048.").Default("2048").IntVar(&w.maxValue)
	cmd.Flag("storage.max-future", "How far in the future a sample may be.").Default("10m").SetValue(&w.maxFuture)
}

func (w *writeFlags) handler(db *storage.DB, logger *slog.Logger, registry *prometheus.Registry) http.Handler {
	return adapter.NewWriteHandler(adapter.NewStore(db), adapter.Options{
		Limits: adapter.Limits{
			BodyBytes:       int64(w.maxBody),
			DecodedBytes:    int64(w.maxDecoded),
			InFlightBytes:   int64(w.maxInFlight),
			Labels:          w.maxLabels,
			LabelNameBytes:  w.maxName,
			LabelValueBytes: min(w.maxValue, catalogue.MaxLabelValue),
		},
		MaxFuture:  time.Duration(w.maxFuture),
		Logger:     logger.With("component", "adapter"),
		Registerer: registry,
	})
}
