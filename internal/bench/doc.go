// Package bench measures what Waymark promises of speed and memory, each as a
// ratio to doing the same by hand in the same minutes on the same machine:
// "make bench" prints one table. Nothing here runs with the tests, because a
// time is no verdict on a machine that does other things as well.
package bench
