package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/waymark-cd/waymark/release"
)

const (
	// maxSignatureBytes bounds an armoured signature.
	maxSignatureBytes = 64 << 10
	// maxKeyFileBytes bounds a file of keys.
	maxKeyFileBytes = 4 << 20
	// clockSkew is how far in the future a signature may lie: the signer's clock
	// is another.
	clockSkew = 10 * time.Minute
)

// SignedTag is a tag object as a signature sees it.
type SignedTag struct {
	Payload  []byte    // the exact bytes that a signature covers
	Armor    []byte    // the signature, as the object holds it; empty where unsigned
	Name     string    // of the tag that the object was made for
	Mail     string    // the tagger's address; hostile until the signature was verified
	TaggedAt time.Time // as the tagger says; zero where the object does not
}

// SplitTag splits the bytes of a tag object where git does: at the last line that
// opens an armoured signature. Nothing else is read into them.
func SplitTag(raw []byte) SignedTag {
	head, body, found := bytes.Cut(raw, []byte("\n\n"))
	at := len(raw)
	if found {
		message, _ := splitSignature(body)
		at = len(raw) - len(body) + len(message)
	}
	t := SignedTag{Payload: raw[:at:at], Armor: raw[at:]}
	for line := range bytes.SplitSeq(head, []byte{'\n'}) {
		if text, ok := bytes.CutPrefix(line, []byte("tag ")); ok && t.Name == "" {
			t.Name = string(text)
		}
		if text, ok := bytes.CutPrefix(line, []byte("tagger ")); ok {
			var who object.Signature
			who.Decode(text)
			t.Mail, t.TaggedAt = who.Email, who.When.UTC()
			break
		}
	}
	return t
}

// SignedTag reads the object of a tag that was fetched, as Tag does and with its
// errors. A lightweight tag has no object to sign: it is unsigned.
func (r *Repository) SignedTag(ctx context.Context, ref Ref) (SignedTag, error) {
	info, err := r.Tag(ctx, ref)
	if err != nil || !info.Annotated {
		return SignedTag{}, err
	}
	raw, err := r.rawTag(ctx, ref)
	if err != nil {
		return SignedTag{}, fmt.Errorf("repository %q: tag %q: %w", r.cfg.Name, clip(ref.Name), err)
	}
	return SplitTag(raw), nil
}

func (r *Repository) rawTag(ctx context.Context, ref Ref) ([]byte, error) {
	id, err := parseID(ref.ObjectID)
	if err != nil {
		return nil, err
	}
	if err := r.reading.take(ctx); err != nil {
		return nil, err
	}
	defer r.reading.give()
	obj, err := r.store.EncodedObject(plumbing.TagObject, id)
	if err != nil {
		return nil, r.markDamaged(err)
	}
	return readBounded(obj, maxTagBytes)
}

// ReadTagObject reads the bytes of a tag object from another store than a
// Repository's, such as somebody's clone; none for any other object, as that of a
// lightweight tag. An overlong one is ErrTooLarge.
func ReadTagObject(from storer.EncodedObjectStorer, objectID string) ([]byte, error) {
	id, err := parseID(objectID)
	if err != nil {
		return nil, err
	}
	obj, err := from.EncodedObject(plumbing.AnyObject, id)
	if err != nil || obj.Type() != plumbing.TagObject {
		return nil, err
	}
	return readBounded(obj, maxTagBytes)
}

// Signers are people who may sign tags, by their keys. They do not change.
type Signers struct {
	openpgp []openpgpKey
	ssh     []allowedSigner
}

// KeyProblem is one mistake in a file of keys.
type KeyProblem struct {
	File string
	Line int    // from 1; 0 where the file as a whole is meant
	Text string // what is wrong, and what to do
}

// String prints the problem on one line.
func (p KeyProblem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// LoadSigners reads files of OpenPGP keys, armoured or binary, with any number of
// public keys each, and a file of SSH keys in the format that ssh-keygen(1)
// describes under ALLOWED SIGNERS; allowed is empty where there is none. It
// returns every mistake of every file: a key that could not be read is a key
// whose signature, or whose revocation, would be missed.
func LoadSigners(openpgp []string, allowed string) (*Signers, []KeyProblem) {
	s := &Signers{}
	var problems []KeyProblem
	for _, file := range openpgp {
		data, err := readKeyFile(file)
		if err != nil {
			problems = append(problems, KeyProblem{File: file, Text: err.Error()})
			continue
		}
		keys, found := parseOpenPGP(file, data)
		s.openpgp, problems = append(s.openpgp, keys...), append(problems, found...)
	}
	if allowed != "" {
		data, err := readKeyFile(allowed)
		if err != nil {
			return s, append(problems, KeyProblem{File: allowed, Text: err.Error()})
		}
		keys, found := parseAllowedSigners(allowed, data)
		s.ssh, problems = keys, append(problems, found...)
	}
	return s, problems
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, maxKeyFileBytes+1)); err == nil {
			if len(data) > maxKeyFileBytes {
				return nil, fmt.Errorf("it has more than %d bytes: give it the signers' keys alone", maxKeyFileBytes)
			}
			return data, nil
		}
	}
	var at *os.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return nil, fmt.Errorf("it cannot be read: %w", err)
}

// Verify tells who signed a tag. It fails with a *release.SignatureError that
// says what is wrong. A key must be valid both now and when it signed: the time
// of an OpenPGP signature is its own, that of an SSH signature is the tagger's,
// and either is what the holder of the key says.
func (s *Signers) Verify(t SignedTag, now time.Time) (release.Signer, error) {
	first, _, _ := bytes.Cut(t.Armor, []byte{'\n'})
	kind := strings.TrimSpace(string(first))
	switch {
	case len(t.Armor) == 0:
		return release.Signer{}, release.RefuseSignature(release.Unsigned, "", "the tag is not signed")
	case len(t.Armor) > maxSignatureBytes:
		return release.Signer{}, release.RefuseSignature(release.SignatureUnsupported, "",
			"the tag's signature has %d bytes; the limit is %d", len(t.Armor), maxSignatureBytes)
	case kind == "-----BEGIN PGP SIGNATURE-----":
		return s.verifyOpenPGP(t, now)
	case kind == "-----BEGIN SSH SIGNATURE-----":
		return s.verifySSH(t, now)
	case kind == "-----BEGIN SIGNED MESSAGE-----":
		return release.Signer{}, release.RefuseSignature(release.SignatureUnsupported, "",
			"the tag is signed with an X.509 certificate, which is not verified: sign with an OpenPGP or an SSH key")
	}
	return release.Signer{}, release.RefuseSignature(release.SignatureUnsupported, "",
		"the tag's signature is of a kind that is not verified: sign with an OpenPGP or an SSH key")
}

// damaged refuses a signature that cannot be read.
func damaged(format string, args ...any) error {
	return release.RefuseSignature(release.SignatureAltered, "", "the tag's signature is damaged: "+format, args...)
}

// oneBlock checks that an armoured signature ends where its block does: what
// follows is in the tag, and nobody signed it.
func oneBlock(armor []byte, end string) error {
	_, after, found := bytes.Cut(armor, []byte("\n"+end))
	switch {
	case !found:
		return damaged("it has no line %s", end)
	case len(bytes.TrimSpace(after)) > 0:
		return release.RefuseSignature(release.SignatureAltered, "", "the tag has text after its signature, which nobody signed")
	}
	return nil
}

// moment prints a time for a message.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
