// Package catalog is the host database: the eight models that fh-saas shares with us, our own tables beside them,
// the reads that a request's way needs, and the migrations that make it all.
//
// One API stands before PostgreSQL and SQLite. Values returned are the caller's own; a HostDatabase is safe for
// concurrent use, a Tx belongs to one goroutine. Every change made through Tables takes its sys_audit_logs row with it
// in the same transaction.
//
// Failure mode: nothing is guessed. What cannot be read is an error (ErrUnavailable when the database cannot be
// reached or a deadline passed), never an empty answer. No error text holds a URL, a password or a parameter's value.
package catalog
