// Package importer reads the history that others keep, Prometheus' blocks, OpenMetrics text and remote read, and hands it to a
// storage.Import.
//
// The package must not know SQL, nor how samples are stored.
package importer
