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
	pg := pgtest.New(t, pgtest.WithTimescaleDB)
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
	require.Contains(t, st.Advice(), "its 2 samples")
	require.Contains(t, st.Advice(), "promkeep import remote-read")
	db = open(t, cfg)
	write(t, db, lset("m", 1), sample{day.UnixMilli() + 2, 3})
	require.NoError(t, db.Flush(ctx))
	require.Len(t, read(t, db, 0, c.now.UnixMilli(), eq("__name__", "m"))[lset("m", 1).String()], 3)
}
