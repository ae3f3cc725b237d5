// Promkeep keeps the metrics of many Prometheus servers in PostgreSQL.
package main

import (
	"os"

	"github.com/promkeep/promkeep/cmd/app"
)

func main() { os.Exit(app.Main(os.Args[1:])) }
