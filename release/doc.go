// Package release is the vocabulary that every other package shares: targets,
// releases, runs, stages, findings, the states of a run with their one
// transition function, what service and runner say to each other, and the
// sentinel errors that callers branch on.
//
// It holds values only. It must never open a file, a connection or a process.
package release
