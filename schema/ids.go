package schema

import "github.com/jackc/pgx/v5"

// SignedIDs returns the IDs of series as SQL has them, whose integers are signed.
func SignedIDs(ids []uint64) []int64 {
	out := make([]int64, len(ids))
	for i, id := range ids {
		out[i] = int64(id)
	}
	return out
}

// RowToID scans a row that is the ID of a series.
func RowToID(row pgx.CollectableRow) (uint64, error) {
	id, err := pgx.RowTo[int64](row)
	return uint64(id), err
}
