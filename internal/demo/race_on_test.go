//go:build race

package demo

// slower is by how much the race detector stretches what is timed.
const slower = 10
