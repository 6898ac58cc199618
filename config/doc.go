// Package config owns waymark.hcl: it decodes the file strictly, fills in
// defaults, checks fields against each other, and evaluates for one target
// what depends on the target.
//
// Load and Parse return a Config that is wholly valid, or Problems that name
// every mistake with its file, line and column. One table (schema.go) drives
// decoding, defaults and the reference in docs/configuration.md.
//
// It must never run a program, open a connection or write a file, and it must
// never evaluate anything that comes from a repository: tfvar reads literals.
package config
