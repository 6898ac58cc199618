package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/waymark-cd/waymark/release"
)

// Signers are people who may sign tags, by files with their keys. What is in the
// files is read by whoever verifies signatures; ProblemAt says where in the
// configuration a file was named.
type Signers struct {
	Name           string
	OpenPGP        []string // absolute paths of files with public keys
	AllowedSigners string   // absolute path of a file in the format of ssh-keygen, or empty
	Teams          []string // whose tags they may sign; empty: all

	block, openpgp, allowed hcl.Range
}

// ProblemAt makes a problem of one of the block's files, at the attribute that
// names it.
func (s Signers) ProblemAt(file, summary string) Problem {
	at := s.block
	switch {
	case file == s.AllowedSigners:
		at = s.allowed
	case slices.Contains(s.OpenPGP, file):
		at = s.openpgp
	}
	return problemAt(at, fmt.Sprintf("signers %q", s.Name), summary)
}

// SignersFor lists the signers who may sign tags for a target, in file order:
// those that its environment names, or all, without those of other teams.
func (c *Config) SignersFor(t release.Target) []Signers {
	env, _ := c.Environment(t.Env)
	var out []Signers
	for _, s := range c.Signers {
		if (len(env.Signers) == 0 || slices.Contains(env.Signers, s.Name)) && (len(s.Teams) == 0 || slices.Contains(s.Teams, t.Team)) {
			out = append(out, s)
		}
	}
	return out
}

func signersBlock() block {
	return block{
		name: "signers", label: "name", many: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Signers, Signers{Name: name})
		}),
		about: "People who may sign tags, by their keys. The files are read when the service starts; a key in them that cannot be read is an error.",
		fields: []field{
			{name: "openpgp", at: of(func(s *Signers) any { return &s.OpenPGP }), file: true, unset: "no OpenPGP keys",
				example: `["keys/release.asc"]`,
				meaning: "Files with public keys, armoured or binary, any number of keys in each. Who signed is a key's user id. Expiry and revocation are honoured as the files tell them."},
			{name: "allowed_signers", at: of(func(s *Signers) any { return &s.AllowedSigners }), file: true, unset: "no SSH keys",
				example: `"allowed_signers"`,
				meaning: "A file of SSH keys in the format of ssh-keygen (ALLOWED SIGNERS in its manual page), with `namespaces`, `valid-after` and `valid-before`. `cert-authority` is not supported. A time without a `Z` is in the service's time zone."},
			{name: "teams", at: of(func(s *Signers) any { return &s.Teams }), unset: "all teams", example: `["research"]`,
				meaning: "Teams whose tags these people may sign."},
		},
		note: "Where there is a `signers` block, every signature is verified. One that is damaged, or by a known key and altered, revoked, expired, not yet valid or made for another purpose, is refused in every environment. " +
			"A tag without a signature, or with one by an unknown key, by a key that may not sign here or of a kind that is not verified, is refused where `require_signature` is set. See [Concepts](concepts.md#signatures).",
	}
}

// checkSigners finds signers without keys, selectors that name nothing, and
// signatures that nobody could make.
func (d *decoder) checkSigners(cfg *Config) {
	var names []string
	for i := range cfg.Signers {
		s := &cfg.Signers[i]
		names = append(names, s.Name)
		s.block, s.openpgp, s.allowed = d.at("signers", s.Name), d.at("signers", s.Name, "openpgp"), d.at("signers", s.Name, "allowed_signers")
		if len(s.OpenPGP) == 0 && s.AllowedSigners == "" && d.intact("signers."+s.Name) {
			d.report(s.block, fmt.Sprintf("signers %q has no keys", s.Name), `write openpgp = ["keys/release.asc"] or allowed_signers = "allowed_signers"`)
		}
		for _, team := range s.Teams {
			if !slices.Contains(cfg.Teams, team) && !d.broken["teams"] {
				d.report(d.at("signers", s.Name, "teams"), fmt.Sprintf("signers %q names %q, which is no team", s.Name, short(team)), Choose(team, cfg.Teams))
			}
		}
	}
	for _, e := range cfg.Environments {
		for _, name := range e.Signers {
			if !slices.Contains(names, name) {
				d.report(d.at("environment", e.Name, "signers"), fmt.Sprintf("environment %q names the signers %q, and there are none of that name", e.Name, short(name)),
					Choose(name, names))
			}
		}
		path := "environment." + e.Name + ".signers"
		switch {
		case e.RequireSignature && len(names) == 0:
			d.report(d.at("environment", e.Name, "require_signature"), fmt.Sprintf("environment %q requires signatures, and there are no signers", e.Name),
				`write signers "release" { openpgp = ["keys/release.asc"] }`)
		case len(e.Signers) == 0 && d.has(path) && !d.broken[path]:
			d.report(d.at("environment", e.Name, "signers"), fmt.Sprintf("environment %q names no signers", e.Name),
				"leave signers out to let all of them sign, or name some")
		}
	}
}
