// Package codectest makes series that look like those of node_exporter,
// cAdvisor and instrumented Go programs, for benchmarks and tests of whatever
// stores samples. The same seed always gives the same samples (up to the last
// place of floating-point arithmetic, in which processors differ).
//
// It must not know how samples are encoded.
package codectest
