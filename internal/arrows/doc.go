// Package arrows holds the tests that keep imports running downwards only, and files and functions short, so that nobody
// has to remember it.
//
// It has no code of its own, keeps nothing and runs nothing but `go list`. A room that the test does not know fails it:
// whoever adds one says there where it stands.
package arrows
