package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var manuals = []string{"../docs/operations.md", "../docs/migrating.md", "../docs/configuration.md", "../charts/promkeep/README.md", "../CHANGELOG.md"}

// TestManualsNameWhatIsThere: each flag of promkeep's in them is one of the binary's, and each link to a file leads to one.
func TestManualsNameWhatIsThere(t *testing.T) {
	flags := map[string]bool{}
	for _, command := range []string{"serve", "migrate", "import blocks", "import openmetrics", "import remote-read"} {
		help, err := exec.Command(binary, append(strings.Fields(command), "--help")...).Output()
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`--(?:\[no-\])?([a-z][a-z0-9.-]+)`).FindAllStringSubmatch(string(help), -1) {
			flags[m[1]] = true
		}
	}
	for _, manual := range manuals {
		b, err := os.ReadFile(manual)
		require.NoError(t, err)
		// Promkeep's flags have a dot or are one of a few; others are of programs such as createuser.
		for _, m := range regexp.MustCompile("`--([a-z]+\\.[a-z0-9.-]+|data-dir|wait|enable-feature)").FindAllStringSubmatch(string(b), -1) {
			require.True(t, flags[m[1]], "%s names --%s", manual, m[1])
		}
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(b), -1) {
			link, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(link, "://") {
				continue
			}
			if link == "" {
				require.Regexp(t, `(?mi)^#+ `+regexp.QuoteMeta(strings.ReplaceAll(fragment, "-", " "))+`$`, string(b), manual)
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(manual), link))
			require.NoError(t, err, manual)
		}
	}
}
