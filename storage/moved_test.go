package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/schema"
	"github.com/promkeep/promkeep/storage/pgtest"
)

// TestTimescaleDBComesLater: a store that began on plain PostgreSQL goes on when its database gets TimescaleDB, and migrate says what there is
// to convert.
func TestTimescaleDBComesLater(t *testing.T) {
	ctx := context.Background()
	pg := pgtest.New(t, pgtest.WithTimescaleDB, pgtest.Empty)
	c := &clock{day.Add(10 * time.Hour)}
	cfg := testConfig(t, pg, c)
	cfg.TimescaleDB = schema.TimescaleDBOff // as where the extension is not known yet
	db := open(t, cfg)
	write(t, db, lset("m", 1), sample{day.UnixMilli(), 1}, sample{day.UnixMilli() + 1, 2})
	require.NoError(t, db.Flush(ctx))
	c.now = day.Add(30 * time.Hour)
	settle(t, db, pg)
	require.NoError(t, db.Close())

	cfg.TimescaleDB = schema.TimescaleDBAuto
	st, err := Migrate(ctx, cfg)
	require.NoError(t, err)
	require.Equal(t, schema.LayoutPlain, st.Layout)
	require.EqualValues(t, 2, st.PlainSamples)
	require.Positive(t, st.PlainBytes)
	require.EqualValues(t, 1, st.PlainRows)
	require.Contains(t, st.Advice(), "to move    2 samples in 1 packed rows\n    time       about a minute, at 0.7 million samples a second")
	require.Contains(t, st.Advice(), "promkeep import remote-read")
	db = open(t, cfg)
	write(t, db, lset("m", 1), sample{day.UnixMilli() + 2, 3})
	require.NoError(t, db.Flush(ctx))
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()], 3)
}

// TestAdviceSaysWhatAConversionTakes: the estimate follows the size of the store, and there is none where there is nothing to convert.
func TestAdviceSaysWhatAConversionTakes(t *testing.T) {
	st := schema.Status{Layout: schema.LayoutPlain, TimescaleDB: schema.EditionCommunity, PlainSamples: 5_000_000_000, PlainRows: 1_000_000, PlainBytes: 3_100_000_000}
	advice := st.Advice()
	require.Contains(t, advice, "5000000000 samples in 1000000 packed rows")
	require.Contains(t, advice, "about 113 minutes, at 0.7 million samples a second; the import uses 11 minutes of CPU")
	require.Contains(t, advice, "3.1 GB more")
	st.PlainSamples *= 100
	require.Contains(t, st.Advice(), "about 8 days, at")
	require.Contains(t, st.Advice(), "18 hours of CPU")
	st.TimescaleDB = schema.EditionApache
	require.Contains(t, st.Advice(), "nothing to win")
	for _, nothing := range []schema.Status{{Layout: schema.LayoutPlain}, {Layout: schema.LayoutTimescaleDB, TimescaleDB: schema.EditionCommunity}} {
		require.Empty(t, nothing.Advice())
	}
}
