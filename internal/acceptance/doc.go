// Package acceptance holds whole gates against the contract: on copies of the databases that fh-saas made, with two
// replicas on one PostgreSQL, against OpenID providers that are not ours, while the database or the provider is down,
// with every kind of stream, across reloads, and once for every denial.
//
// It has no code of its own, only tests. Each makes what it needs (databases, servers, providers) and ends it; nothing
// is shared but the process's PostgreSQL server, so that tests may run at the same time. Waiting is for a condition,
// with a deadline, never for a time. What is missing on the machine (PostgreSQL, Node.js) fails the test that needs it;
// nothing is skipped.
package acceptance
