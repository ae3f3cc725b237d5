-- For as long as a connection is made ready: statements fail rather than wait behind somebody's lock.
SET lock_timeout = '10ms'
