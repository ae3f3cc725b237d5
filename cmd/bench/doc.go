// Package bench is the command "promkeep bench": a load generator for any remote-write endpoint, and the comparisons of promkeep
// with other stores that docs/performance.md quotes.
//
// A load is deterministic: the same seed gives the same series, timestamps and values. Requests are prepared before the
// clock runs, so that the generator takes little of a machine that it shares with what it measures; what it does take is
// reported, and not counted.
//
// The package must not know how promkeep stores samples, but for the storage comparison, which writes through package storage.
package bench
