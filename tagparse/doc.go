// Package tagparse owns the deployment tag's grammar, <env>_<scope>/<team>/<version>,
// and the order of versions. It reads a name and nothing else: it knows no
// configuration, no repository and no clock, and it must never accept a name
// that its own String would not print again byte for byte.
//
// The whole name matches or it is no deployment tag. Every byte is ASCII.
//
//	env, team  a lower-case letter, then lower-case letters, digits and single
//	           hyphens between them; at most 32 bytes
//	scope      "global", or a name in the form of an AWS Region: two to four
//	           letters, one or two words of two to twelve letters, a number
//	           from 1 to 99, joined by hyphens. "all" is reserved.
//	version    an optional "v"; one to four numbers without leading zeros,
//	           joined by dots; an optional "-" and pre-release; an optional "+"
//	           and build. Pre-release and build are as in SemVer 2.0.0.
//
// A name is at most [MaxLength] bytes. Whether an environment, Region or team
// exists is for the configuration to say.
package tagparse
