// Package postgres finds, starts, tunes and supervises the private PostgreSQL server that promkeep runs when it is
// given no database, and resolves the database URI when it is given one.
//
// The server is reached only through a Unix socket in a directory that nobody but its own user may enter. Below
// the data directory promkeep keeps
//
//	promkeep.lock   held (flock) as long as a promkeep uses the directory; contains its process ID
//	postgres/       the PostgreSQL cluster, a normal one: psql, pg_dump and pg_upgrade work on it
//	run/            the socket, unless that path is too long for a Unix socket
//
// The package must not know what is stored in the database: no table, no migration, no query of promkeep's own. It
// makes an empty database "promkeep" owned by an ordinary role "promkeep", and creates the TimescaleDB extension in
// it where the server has that library, because creating it may need a superuser, which only this package is.
package postgres
