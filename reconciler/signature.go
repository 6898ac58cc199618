package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// Verifier is a Remote that tells who signed a tag. A service whose
// configuration has signers needs its remotes to be one.
type Verifier interface {
	// Verify holds the signature of a fetched tag against the keys of one signers
	// block, as of now. What is wrong with it is a *release.SignatureError.
	Verify(ctx context.Context, ref Ref, signers string, now time.Time) (release.Signer, error)
}

// SignatureVerdict is what the configuration says of a tag's signature that is
// not refused.
type SignatureVerdict struct {
	By       release.Signer // zero where nobody is known to have signed
	Signers  string         // the signers block that By belongs to
	Required bool
	// Unverified says why nobody is known; empty where By is set, and where no
	// signers are configured.
	Unverified string
}

func (r *Reconciler) signedBy(ctx context.Context, w *watch, c candidate) (SignatureVerdict, error) {
	now := r.Now()
	return JudgeSignature(r.Config.Config, targetOf(c.tag), func(signers string) (release.Signer, error) {
		v, ok := w.remote.(Verifier)
		if !ok {
			return release.Signer{}, fmt.Errorf("the remote of repository %q cannot verify signatures", w.repo.Name)
		}
		return v.Verify(ctx, c.ref, signers, now)
	})
}

// JudgeSignature decides whether a tag for a target has the signature that it
// needs. verify holds it against one signers block, as Verifier.Verify does; it
// is asked for every block, because a key that is revoked, or a tag that was
// altered, is refused whoever's key it is. A refusal is a *release.SignatureError;
// any other error is one of verify.
func JudgeSignature(cfg *config.Config, t release.Target, verify func(signers string) (release.Signer, error)) (SignatureVerdict, error) {
	env, _ := cfg.Environment(t.Env)
	verdict := SignatureVerdict{Required: env.RequireSignature}
	if len(cfg.Signers) == 0 && !verdict.Required {
		return verdict, nil
	}
	may := map[string]bool{}
	for _, s := range cfg.SignersFor(t) {
		may[s.Name] = true
	}
	var here, elsewhere signedAs
	worst := &release.SignatureError{Fault: release.Unsigned, Reason: "the tag is not signed"}
	for i, s := range cfg.Signers {
		by, err := verify(s.Name)
		var bad *release.SignatureError
		switch {
		case err == nil && may[s.Name]:
			here.first(by, s.Name)
		case err == nil:
			elsewhere.first(by, s.Name)
		case !errors.As(err, &bad):
			return verdict, err
		case i == 0 || gravity(bad.Fault) > gravity(worst.Fault):
			worst = bad
		}
	}
	switch grave := gravity(worst.Fault); {
	case grave == always:
		return verdict, advise(worst)
	case here != (signedAs{}):
		verdict.By, verdict.Signers = here.by, here.signers
		return verdict, nil
	case grave == known:
		return verdict, advise(worst)
	case elsewhere != (signedAs{}):
		worst = &release.SignatureError{Fault: release.SignatureWrongSigner, Key: elsewhere.by.Key,
			Reason: fmt.Sprintf("the tag is signed by %s of the signers %q, who may not sign for %s", elsewhere.by, elsewhere.signers, t)}
	}
	if !verdict.Required {
		verdict.Unverified = worst.Reason
		return verdict, nil
	}
	return verdict, require(worst, t, may, cfg)
}

// signedAs is a signer and the block that knows the key.
type signedAs struct {
	by      release.Signer
	signers string
}

func (s *signedAs) first(by release.Signer, signers string) {
	if *s == (signedAs{}) {
		*s = signedAs{by, signers}
	}
}

// How grave a fault is.
const (
	lacking = iota // nothing is known of the signer: refused where a signature is required
	unclear        // the same, for a signature of a kind that is not verified
	known          // a known key may not have signed this: refused unless another allowed it
	always         // refused whatever else is said
)

func gravity(f release.SignatureFault) int {
	switch f {
	case release.Unsigned, release.SignatureUnknownKey:
		return lacking
	case release.SignatureUnsupported:
		return unclear
	case release.SignatureRevoked, release.SignatureAltered:
		return always
	}
	return known
}

// advise is a refusal with what to do next.
func advise(bad *release.SignatureError) error {
	return release.RefuseSignature(bad.Fault, bad.Key, "%s; push a tag with a new version, %s", bad.Reason, nextVersion)
}

// require is the refusal of a tag that lacks a signature which counts.
func require(bad *release.SignatureError, t release.Target, may map[string]bool, cfg *config.Config) error {
	var names []string
	for _, s := range cfg.Signers {
		if may[s.Name] {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return release.RefuseSignature(bad.Fault, bad.Key, "%s, and %s requires a signature that nobody may give for the team %s: add signers for it to the configuration",
			bad.Reason, t.Env, t.Team)
	}
	return release.RefuseSignature(bad.Fault, bad.Key, "%s, and %s requires a signature by one of the signers %s: sign with git tag -s -m MESSAGE %s",
		bad.Reason, t.Env, strings.Join(names, ", "), nextVersion)
}
