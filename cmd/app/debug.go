package app

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-chi/chi/v5"

	"github.com/promkeep/promkeep/storage"
)

// debug lets a benchmark say what time it is for the storage, and when background work is done: a load sent faster than
// real time must be flushed and merged as often as it would be in real time.
type debug struct {
	clock bool
	now   atomic.Int64 // ms; 0 is the time of the machine
}

func (d *debug) register(cmd *kingpin.CmdClause) {
	cmd.Flag("debug.clock", "For benchmarks: do background work only on POST /debug/flush and /debug/maintain, as of the time set with POST /debug/clock?ms=.").Hidden().BoolVar(&d.clock)
}

// time is the storage's clock.
func (d *debug) time() time.Time {
	if ms := d.now.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Now()
}

// handler adds the routes to api, if they were asked for.
func (d *debug) handler(db *storage.DB, api http.Handler) http.Handler {
	if !d.clock {
		return api
	}
	r := chi.NewRouter()
	r.Post("/debug/clock", func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.ParseInt(r.URL.Query().Get("ms"), 10, 64)
		if err != nil || ms <= 0 {
			http.Error(w, "ms is the time in milliseconds", http.StatusBadRequest)
			return
		}
		d.now.Store(ms)
		fmt.Fprintln(w, d.time().UTC())
	})
	r.Post("/debug/flush", func(w http.ResponseWriter, r *http.Request) { done(w, db.Flush(r.Context())) })
	r.Post("/debug/maintain", func(w http.ResponseWriter, r *http.Request) { done(w, db.Maintain(r.Context())) })
	r.NotFound(api.ServeHTTP)
	r.MethodNotAllowed(api.ServeHTTP)
	return r
}

func done(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
