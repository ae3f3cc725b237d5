package chunks

import (
	"fmt"

	"github.com/promkeep/promkeep/storage/codec"
	"github.com/promkeep/promkeep/storage/series"
)

// Decode returns the samples of a row in [mint, maxt] (ms).
func Decode(r Row, mint, maxt int64) (series.Run, error) {
	run := series.Run{Version: int64(r.Version)}
	switch r.Encoding {
	case codec.EncodingFloat:
		var c codec.Columns
		if err := c.DecodeRange(r.Data, mint, maxt); err != nil {
			return run, err
		}
		run.T, run.V = c.T, c.V
		if len(c.ST) > 0 {
			run.ST = c.ST
		}
	default:
		return run, fmt.Errorf("%w: unknown encoding %d", codec.ErrCorrupt, r.Encoding)
	}
	return run, nil
}

// Encode packs the samples of one series into rows: floats, integer histograms and float histograms each into their own.
func Encode(id uint64, version int32, set *series.Set) ([]Row, error) {
	var out []Row
	for t, v, st := set.T, set.V, set.ST; len(t) > 0; {
		n := min(len(t), codec.MaxSamples)
		r := Row{SeriesID: id, Start: t[0], End: t[n-1], N: int32(n), Version: version, Encoding: codec.EncodingFloat}
		if len(st) > 0 {
			r.Data = codec.Append(nil, t[:n], v[:n], st[:n])
			st = st[n:]
		} else {
			r.Data = codec.Append(nil, t[:n], v[:n], nil)
		}
		out = append(out, r)
		t, v = t[n:], v[n:]
	}
	return out, nil
}
