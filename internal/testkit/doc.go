// Package testkit is what the tests of the other packages share: real git
// remotes, a throw-away PostgreSQL cluster, the pinned tools and a mirror with
// a real provider. What it hands out is real, and gone when the test ends. AWS
// alone it stands in for: by servers that real clients and engines talk to.
//
// Test files alone import it, never the product; where something that it needs
// is missing, the test fails and names what to install.
package testkit
