// Package attack attacks a whole gate, as clients, apps and other programs could, and asserts that it holds. It has
// tests alone; nothing imports it.
//
// Each test carries the id of the attack that it repeats (HDR-1, PATH-1, SMUG-1 …), under which the advisories and
// reports that it stems from are known. What is expected is written down in the tests themselves, as tables, and never
// computed by the code under test: the tests fold header names, read paths and look for leaks on their own. Clients
// and apps speak raw bytes wherever net/http would mend an attack on its way.
//
// Failure mode: a test that cannot attack (a port, a database that does not start) fails; none is skipped. Waiting is
// bounded by deadlines and nothing depends on the speed of the machine.
package attack
