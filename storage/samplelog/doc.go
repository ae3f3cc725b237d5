// Package samplelog is the durable log between the adapter and the head: a 2xx is sent when a row of this log is committed.
//
// One session writes one segment, in order and without gaps, and holds an advisory lock on it as long as it lives; who gets
// that lock knows that no commit of the segment can come late. Requests that arrive while a commit is under way share the
// next one (group commit). What was committed is applied in the order of the commits, and only then acknowledged.
//
// The package must not know what a payload means, nor what a series is.
package samplelog
