// Package arrows holds the test that keeps imports running downwards only, so that nobody has to remember it.
//
// It has no code of its own, keeps nothing and runs nothing but `go list`. A room that the test does not know fails it:
// whoever adds one says there where it stands.
package arrows
