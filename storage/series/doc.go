// Package series brings together samples of one series that come from several places: packed rows of different flushes,
// and what is still in memory. Of several samples with one timestamp the one that was accepted last counts.
//
// It must not know where a run of samples came from.
package series
