// Package credentials opens the AWS sessions of a run: one for its state, whose
// session policy reaches that state alone, and where the configuration names a
// role of the target's account, one for the code's provider. It says what the
// run's environment holds, and signs git requests to CodeCommit.
//
// It must never hand out the service's own credentials, nor write a session
// anywhere: what goes into which file is returned, and whoever starts the run
// writes it.
package credentials
