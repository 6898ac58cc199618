// Package storm proves that nothing is lost: real replicas of the service share
// one PostgreSQL and one git remote while they are killed, stopped, cut off,
// filled up and restarted under load, and what they did is held against a ledger
// that they cannot reach. "make storm" runs it for ten minutes and prints one
// table; a shorter form with fixed seeds is part of the tests.
//
// Nothing here is imported by the product, and nothing of the product's insides
// is known here but its database's table of runs, its command line and its API.
package storm
