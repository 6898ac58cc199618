package gitrepo

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/waymark-cd/waymark/release"
)

// sshNamespace is what git signs under, so that no signature for another purpose
// can be passed off as one of a tag.
const sshNamespace = "git"

func (s *Signers) verifySSH(t SignedTag, now time.Time) (release.Signer, error) {
	if err := oneBlock(t.Armor, "-----END SSH SIGNATURE-----"); err != nil {
		return release.Signer{}, err
	}
	sig, err := sshsig.Unarmor(t.Armor)
	switch {
	case errors.Is(err, sshsig.ErrUnsupportedSignatureVersion), errors.Is(err, sshsig.ErrUnsupportedHashAlgorithm):
		return release.Signer{}, release.RefuseSignature(release.SignatureUnsupported, "",
			"the tag's SSH signature is of a kind that is not verified: %v", err)
	case err != nil:
		return release.Signer{}, damaged("%v", err)
	}
	name := ssh.FingerprintSHA256(sig.PublicKey)
	if _, isCertificate := sig.PublicKey.(*ssh.Certificate); isCertificate {
		return release.Signer{}, release.RefuseSignature(release.SignatureUnsupported, name,
			"the tag is signed with an SSH certificate, which is not verified: sign with a plain key")
	}
	var refusal error
	for _, key := range s.ssh {
		if !bytes.Equal(key.key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		signer, err := key.verify(t, sig, now)
		if err == nil {
			return signer, nil // a key may stand on several lines, as for two periods
		}
		if refusal == nil {
			refusal = err
		}
	}
	if refusal != nil {
		return release.Signer{}, refusal
	}
	return release.Signer{}, release.RefuseSignature(release.SignatureUnknownKey, name,
		"the tag is signed with the SSH key %s, which is not known", name)
}

// verify holds a signature against one line of allowed signers: first whether
// the key made it over these bytes, then whether it might.
func (a allowedSigner) verify(t SignedTag, sig *sshsig.Signature, now time.Time) (release.Signer, error) {
	signer := release.Signer{Name: a.principal(t.Mail), Key: ssh.FingerprintSHA256(a.key), Kind: "SSH"}
	refuse := func(fault release.SignatureFault, format string, args ...any) (release.Signer, error) {
		return release.Signer{}, release.RefuseSignature(fault, signer.Key, "the SSH key %s of %s "+format,
			append([]any{signer.Key, clip(a.list)}, args...)...)
	}
	if sig.Namespace != sshNamespace {
		return refuse(release.SignatureWrongUse, "signed in the namespace %q, not in %q: sign with git tag -s", clip(sig.Namespace), sshNamespace)
	}
	if sshsig.Verify(bytes.NewReader(t.Payload), sig, a.key, sig.HashAlgorithm, sshNamespace) != nil {
		return refuse(release.SignatureAltered, "did not sign this: the tag was altered after it was signed")
	}
	if len(a.namespaces) > 0 && matchList(a.namespaces, sshNamespace) != matched {
		return refuse(release.SignatureWrongUse, "is not allowed for the namespace %q: sign with another key", sshNamespace)
	}
	if t.TaggedAt.After(now.Add(clockSkew)) {
		return refuse(release.SignatureNotYetValid, "signed a tag of %s, which is in the future: correct the clock and sign again", moment(t.TaggedAt))
	}
	for _, at := range []time.Time{t.TaggedAt, now} {
		switch {
		case !a.after.IsZero() && at.Before(a.after):
			return refuse(release.SignatureNotYetValid, "is not valid before %s, and %s is: sign with another key", moment(a.after), moment(at))
		case !a.before.IsZero() && at.After(a.before):
			return refuse(release.SignatureExpired, "expired at %s: sign with another key", moment(a.before))
		}
	}
	if signer.Name == "" {
		return refuse(release.SignatureWrongSigner, "may not sign for the tagger %q: make the tag under an address that it may sign for", clip(t.Mail))
	}
	return signer, nil
}

// principal names the signer: the tagger's address where the line's patterns
// match it, otherwise the first principal of the line that is no pattern. It is
// empty where the line excludes the address, or has patterns alone.
func (a allowedSigner) principal(mail string) string {
	switch matchList(a.principals, mail) {
	case matched:
		return mail
	case excluded:
		return ""
	}
	if i := slices.IndexFunc(a.principals, isPlain); i >= 0 {
		return a.principals[i]
	}
	return ""
}
