package chunks

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/storage/codec"
)

var update = flag.Bool("update", false, "write golden files that do not exist yet")

// TestGoldenBundles: bundles of both versions stay readable, and are written as they were. A file here is never changed: what it holds lies in databases.
func TestGoldenBundles(t *testing.T) {
	// What the packed rows say is the codec's: for the directory they are bytes.
	data := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	times := func(b byte, n int) *Times {
		row := data(b, n)
		sum := sha256.Sum256(row)
		return &Times{day: 1_700_006_400_000, row: row, digest: digest(sum[:16])}
	}
	large, small := times('T', 100), times('t', 20)
	const metric = 7 << metricShift
	rows := []Row{
		{SeriesID: metric | 3, Start: 1_700_010_000_000, End: 1_700_017_185_000, N: 480, Version: 5, Encoding: codec.EncodingFloat, Data: data('a', 40)},
		{SeriesID: metric | 3, Start: 1_700_010_000_000, End: 1_700_010_015_000, N: 2, Version: 9, Encoding: codec.EncodingFloat, Data: data('b', 12)},
		{SeriesID: metric | 4, Start: 1_700_009_999_000, End: 1_700_017_180_000, N: 479, Version: 5, Encoding: codec.EncodingFloat, Data: data('c', 300), Times: large},
		{SeriesID: metric | 90_000, Start: 1_700_010_000_001, End: 1_700_010_060_001, N: 5, Version: 4, Encoding: codec.EncodingFloat, Data: data('d', 30), Times: small},
		{SeriesID: metric | 90_001, Start: 1_700_009_999_000, End: 1_700_017_180_000, N: 479, Version: 5, Encoding: codec.EncodingFloat, Data: data('e', 1), Times: large},
		{SeriesID: metric | 1<<36, Start: 1_700_010_000_000, End: 1_700_010_000_000, N: 1, Version: 6, Encoding: codec.EncodingHistogram, Data: data('f', 77)},
	}
	for name, refer := range map[string]bool{"bundle-1.bin": false, "bundle-2.bin": true} {
		t.Run(name, func(t *testing.T) {
			b := &bundle{refer: refer}
			for _, r := range rows {
				require.True(t, b.fits(r))
				b.add(r)
			}
			row := tableRow(b)
			path := filepath.Join("testdata", "golden", name)
			if _, err := os.Stat(path); os.IsNotExist(err) && *update {
				require.NoError(t, os.WriteFile(path, row.Data, 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, want, row.Data)

			row.Data = want
			var got []Row
			require.NoError(t, unbundle(row, func(r Row) error {
				r.Data = bytes.Clone(r.Data)
				got = append(got, r)
				return nil
			}))
			require.Len(t, got, len(rows))
			for i, w := range rows {
				g := got[i]
				switch {
				case w.Times == nil:
					require.Nil(t, g.Times)
				case refer && w.Times == large:
					require.Nil(t, g.Times.row, "it is in the table")
					require.Equal(t, timesKey{large.day, large.digest}, g.Times.key())
				default:
					require.Equal(t, w.Times.row, g.Times.row)
				}
				g.Times, w.Times = nil, nil
				require.Equal(t, w, g)
			}
		})
	}
}
