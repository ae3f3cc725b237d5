// Package head holds recent samples in memory, per series: all that is not flushed yet, and, as a cache, what was flushed
// in the last hours. It indexes the series it holds by their labels.
//
// It takes samples in any order. Of two samples of one series with the same timestamp the later accepted wins.
//
// The package must not know SQL, nor where samples are kept when they are not in memory.
package head
