package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const (
	chartDir = "../promkeep"
	root     = "../.."
)

// binary is promkeep, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "promkeep-chart")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = os.Getenv("PROMKEEP_BINARY")
	if binary == "" {
		binary = filepath.Join(dir, "promkeep")
		build := exec.Command("go", "build", "-o", binary, "./cmd/promkeep")
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building promkeep: %v\n%s", err, out)
			return 1
		}
	} else if binary, err = filepath.Abs(binary); err != nil {
		panic(err)
	}
	return m.Run()
}
