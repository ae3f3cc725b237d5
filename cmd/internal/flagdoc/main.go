// Flagdoc writes docs/configuration.md to its standard output.
package main

import (
	"fmt"
	"os"

	"github.com/promkeep/promkeep/cmd/app"
)

func main() {
	if err := app.FlagDocs(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "flagdoc:", err)
		os.Exit(1)
	}
}
