// Package tenancy tells whose a request is, and lets a query read several tenants as one.
//
// A [Policy] finds the tenant of a request in a header that a trusted proxy sets, or in the name of a user whose password was
// verified. [Federated] stands in front of a store that answers for the one tenant of a context, and answers for several.
//
// The package must not know SQL, how samples are kept, nor PromQL.
package tenancy
