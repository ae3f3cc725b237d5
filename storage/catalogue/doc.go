// Package catalogue maps (tenant, labels) to the 64-bit ID of a series and back, durably and for all adapters of a database.
//
// An ID carries its metric in the high bits, so that what is sorted by ID is clustered by metric. The identity of a series
// is a stable 128-bit hash over tenant and labels, verified against the labels.
//
// The package must not know samples, nor which series are in memory.
package catalogue
