package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/reconciler"
	"github.com/waymark-cd/waymark/release"
)

// signers are the keys of the configuration's signers blocks, by name.
type signers map[string]*gitrepo.Signers

// loadSigners reads the key files that a configuration names. What is wrong with
// them comes back as config.Problems: each with its place in the configuration
// and its place in the key file.
func loadSigners(cfg *config.Config) (signers, error) {
	all := signers{}
	var problems config.Problems
	for _, s := range cfg.Signers {
		keys, found := gitrepo.LoadSigners(s.OpenPGP, s.AllowedSigners)
		for _, p := range found {
			problems = append(problems, s.ProblemAt(p.File, p.String()))
		}
		all[s.Name] = keys
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return all, nil
}

var _ reconciler.Verifier = remote{}

// Verify holds a fetched tag's signature against one signers block.
func (r remote) Verify(ctx context.Context, ref reconciler.Ref, name string, now time.Time) (release.Signer, error) {
	keys := r.signers[name]
	if keys == nil {
		return release.Signer{}, fmt.Errorf("signers %q are not loaded", name)
	}
	tag, err := r.repo.SignedTag(ctx, gitrepo.Ref(ref))
	if err != nil {
		return release.Signer{}, err
	}
	return keys.Verify(tag, now)
}

// explainedSignature is what a tag's signature is worth, or would have to be.
type explainedSignature struct {
	Required bool     `json:"required"`
	Signers  []string `json:"signers"` // whose keys count for the target
	// Of a tag that the clone has: who signed it, or why nobody is known.
	Signer     string `json:"signer,omitempty"`
	Key        string `json:"key,omitempty"`
	Kind       string `json:"kind,omitempty"`
	SignedFor  string `json:"signed_for,omitempty"` // the signers block that knows the key
	Unverified string `json:"unverified,omitempty"`
}

// explainSignature says what the service would say of the signature of a tag in a
// clone. A *release.SignatureError is the service's refusal. It is nil where
// nothing is configured of signatures.
func (x *explainer) explainSignature(ctx context.Context, c *gitrepo.Clone, seen inClone) (*explainedSignature, error) {
	env, _ := x.cfg.Environment(x.target.Env)
	if len(x.cfg.Signers) == 0 {
		return nil, nil
	}
	e := &explainedSignature{Required: env.RequireSignature, Signers: []string{}}
	for _, s := range x.cfg.SignersFor(x.target) {
		e.Signers = append(e.Signers, s.Name)
	}
	if !seen.there || seen.bad {
		return e, nil
	}
	tag, err := c.SignedTag(ctx, seen.ref)
	if err != nil {
		return e, err
	}
	verdict, err := reconciler.JudgeSignature(x.cfg, x.target, func(name string) (release.Signer, error) {
		return x.keys[name].Verify(tag, time.Now())
	})
	e.Signer, e.Key, e.Kind = verdict.By.Name, verdict.By.Key, verdict.By.Kind
	e.SignedFor, e.Unverified = verdict.Signers, verdict.Unverified
	return e, err
}

// text prints it for people.
func (e *explainedSignature) text() string {
	switch {
	case e == nil:
		return "not required, and not verified"
	case e.Signer != "":
		return fmt.Sprintf("accepted: %s, of the signers %s", release.Signer{Name: clean(e.Signer), Key: e.Key, Kind: e.Kind}, e.SignedFor)
	case e.Unverified != "":
		return "not required; " + clean(e.Unverified)
	case e.Required:
		return "required, by one of the signers " + orDash(strings.Join(e.Signers, ", "))
	}
	return "not required; one that is there is verified"
}
