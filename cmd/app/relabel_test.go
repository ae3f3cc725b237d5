package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRelabelConfigs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relabel.yml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	write("- source_labels: [__name__]\n  regex: go_.*\n  action: drop\n- regex: pod_uid\n  action: labeldrop\n")
	rules, err := relabelConfigs(file)
	require.NoError(t, err)
	require.Len(t, rules, 2)
	for _, bad := range []string{"- action: nonsense\n", "- regex: '('\n", "- unknown: 1\n", "-\n"} {
		write(bad)
		_, err := relabelConfigs(file)
		require.ErrorContains(t, err, file, bad)
	}
	_, err = relabelConfigs(file + "x")
	require.ErrorContains(t, err, "--write.relabel-config.file")
}
