// Package codec is the byte format of a packed row: many samples of one
// series in one bytea.
//
// A float row holds timestamps (int64, ms), float64 values and optionally
// start timestamps (int64, ms, 0 = unknown). [Encoder] writes it and
// [Columns] reads it back, whole or only a range of time. Every float64 bit
// pattern and every strictly increasing sequence of int64 timestamps survives
// unchanged. Rows of native histograms are containers of Prometheus' own
// histogram chunks.
//
// FORMAT.md beside this file documents every byte, so that other languages
// (PL/pgSQL first of all) can decode rows too.
//
// On amd64 with AVX2 a few kernels in assembly do what is written in Go beside
// them, eight samples at a time. The build tag purego leaves them out.
//
// The package must not know where rows are kept, what a series is, or what
// is done with the samples.
package codec
