// Package catalogue maps (tenant, labels) to the 64-bit ID of a series and back, durably and for all adapters of a database.
//
// An ID carries its metric in the high bits, so that what is sorted by ID is clustered by metric, and its label set in the low ones.
// Metrics, label pairs and label sets have IDs that are never used again. Two series are the same if tenant and labels are equal; hashes
// only help to find them.
//
// What changes series holds the one row of the table catalogue until its commit, and counts up the version there. So readers know
// whether what they remember is still true, whoever changed it.
//
// The package must not know samples, nor which series are in memory.
package catalogue
