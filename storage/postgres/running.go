package postgres

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// RunningURI is the connection string to the database "promkeep" of the embedded server that another promkeep runs in the data
// directory. It is an error that wraps os.ErrNotExist if none runs.
func RunningURI(dataDir string) (string, error) {
	// Process, data directory, start, port and directory of the socket, a line each.
	text, err := os.ReadFile(filepath.Join(ClusterDir(dataDir), "postmaster.pid"))
	if err != nil {
		return "", err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 5 || lines[4] == "" {
		return "", fmt.Errorf("the embedded PostgreSQL in %s is starting", dataDir)
	}
	u := url.URL{Scheme: "postgres", Path: "/promkeep", RawQuery: url.Values{
		"host": {lines[4]}, "port": {lines[3]}, "user": {"promkeep"}, "sslmode": {"disable"},
	}.Encode()}
	return u.String(), nil
}
