// Package adapter is what Prometheus servers speak to: the HTTP handler for remote write, with tenants, limits and
// backpressure.
//
// A request's bytes are read by package wire, its samples go into a [Batch] of a [Store], and the answer is sent
// when the batch is committed. Whatever a sender may try again with success is answered with 5xx or 429, since a sender
// drops what gets any other 4xx.
//
// The package must not know SQL, how samples are kept, nor PromQL.
package adapter
