// Package sqltest tests the SQL surface of schema against the Go side: the same rows, the same samples. It has no code of its
// own beside its tests.
package sqltest
