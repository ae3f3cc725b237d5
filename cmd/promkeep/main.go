// Promkeep keeps the metrics of many Prometheus servers in PostgreSQL.
package main

import (
	"os"
	"runtime"

	"github.com/promkeep/promkeep/cmd/app"
)

func main() {
	// A sample of the heap profile costs microseconds of walking the stack. In a storm of new series, of which each takes kilobytes, one for each 512 KiB, as Go has it, was 1 % of
	// the CPU. A heap that is worth a look has hundreds of MiB.
	runtime.MemProfileRate = 4 << 20
	os.Exit(app.Main(os.Args[1:]))
}
