// Package tagparse owns the deployment tag's grammar, <env>_<scope>/<team>/<version>,
// and the order of versions. It reads a name and nothing else: it knows no
// configuration, no repository and no clock, and it must never accept a name
// that its own String would not print again byte for byte.
package tagparse
