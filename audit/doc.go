// Package audit chains the audit log, signs how far the chain has come, and finds what was tampered with.
//
// Purpose: a Chain, one in every Gate, appends an entry to sys_audit_chain for each committed row of sys_audit_logs,
// fh-saas's too, and logs a signed Checkpoint every minute. Verify finds rows and entries that were changed, removed,
// reordered or put in. Export and Archive write the log down so that a file can be verified by itself. docs/audit.md
// says what is hashed, and what each of these can and cannot find.
//
// Concurrency: a Chain has one goroutine, which Close ends and waits for. Of many replicas the one that holds the
// database's lock appends; the others leave it the work. Verify and Export see one moment of the database.
//
// Failure mode: what cannot be chained is not, and is logged; no request waits for it or fails with it. Verify fails
// rather than call good what it could not look at. Archive deletes nothing that is not chained, verified and safely on
// disk.
package audit
