// Package storage is the way of a sample behind the adapter: catalogue, log, head, flush, merge, retention, and the querier
// over all of them.
//
// A DB takes batches of samples, which are durable and visible to queries when Commit returns, and is a Prometheus
// storage.Queryable. The parts live in packages below: catalogue, samplelog, head, chunks, codec, series.
//
// The package must not know HTTP, protobuf of remote write, nor PromQL.
package storage
