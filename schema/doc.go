// Package schema holds everything that promkeep says to PostgreSQL: the migrations, the layouts of the chunk store, the
// SQL surface for users and the queries of the program, all as .sql files embedded in the binary.
//
// It knows how to bring a database to the version of this binary. It must not know who calls a query, nor what the bytes
// of a packed row mean.
package schema
