// Package promql answers queries: the upstream PromQL engine, the Prometheus HTTP API, federation and remote read, over
// whatever implements Prometheus' storage interfaces.
//
// [NewHandler] is the whole surface a server needs; [NewEngine] gives the engine alone. The engine and most handlers are
// those of github.com/prometheus/prometheus, and this package adds what a store with a database behind it needs around
// them: bounded queues, error codes that tell a passing fault from a bad query, time ranges that fit a database, and the
// handlers whose upstream versions assume a local TSDB. Of PromQL itself only the kernels are evaluated here: frequent
// subtrees of range queries, over arrays, with the bits that the engine gives.
//
// Tenancy needs no option. Every call into the storage carries the context of the HTTP request, so a middleware in front
// of the handler that puts the tenant into the request's context reaches Select, LabelValues and LabelNames. Opening a
// querier does not look at the storage: [storage.Queryable] has no context there, and the first Select does it instead.
//
// The package must not know SQL, the log, or how samples are kept, and imports nothing of promkeep's storage.
//
// [storage.Queryable]: https://pkg.go.dev/github.com/prometheus/prometheus/storage#Queryable
package promql
