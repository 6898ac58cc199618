// Package examples holds infrastructure repositories and configurations that
// people copy, that the tests run, and that waymark demo carries along.
package examples

import "embed"

// Quickstart is the infrastructure repository of examples/quickstart with its
// waymark.hcl, beneath the folder "quickstart".
//
//go:embed all:quickstart
var Quickstart embed.FS
