package adapter

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promkeep/promkeep/adapter/wire"
)

// TestDroppedKeysAreBounded: what is used stays, what is not is forgotten.
func TestDroppedKeysAreBounded(t *testing.T) {
	var d droppedKeys
	used := wire.Key{1, 2}
	require.False(t, d.has(used))
	d.add(used)
	for i := range uint64(3 * maxDropped) {
		d.add(wire.Key{i, 3})
		require.True(t, d.has(used))
		require.LessOrEqual(t, len(d.young)+len(d.old), 2*maxDropped)
	}
	require.True(t, d.has(wire.Key{3*maxDropped - 1, 3}))
	require.False(t, d.has(wire.Key{0, 3}))
}
