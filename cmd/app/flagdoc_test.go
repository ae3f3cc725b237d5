package app

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestConfigurationPageIsThatOfTheFlags(t *testing.T) {
	var want bytes.Buffer
	require.NoError(t, FlagDocs(&want))
	got, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want.String(), string(got)),
		"docs/configuration.md is stale: go run ./cmd/internal/flagdoc > docs/configuration.md")
}
