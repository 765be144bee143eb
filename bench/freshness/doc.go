// Package freshness measures how soon a committed change is in force on every replica, and holds answers against the
// database while changes, faults and restarts come at random:
//
//	go test ./bench/freshness -run xxx -bench . -benchtime 50x
//	go test ./bench/freshness -run Soak -soak 1h -timeout 2h -v
//
// Replicas are whole gates with a change feed each; requests are sent open-loop, at a fixed rate whatever the answers
// take. Lag is the time from the return of the commit to the beginning of the last request that was still answered by
// what was true before.
package freshness
