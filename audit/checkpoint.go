package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/waymark-cd/waymark/release"
)

// Checkpoints are those of C2SP's tlog-checkpoint: a signed note whose text is
// the log's origin, its size and its root, each on a line, signed with Ed25519
// under a key of the origin's name.

// maxCheckpoint bounds a checkpoint, in bytes.
const maxCheckpoint = 16 << 10

// Checkpoint is a head with the name of its log.
type Checkpoint struct {
	Origin string
	Head
}

// CheckOrigin judges the name of a log. It must fit on a line of a note and into
// the text form of a key. The error wraps release.ErrInvalid.
func CheckOrigin(origin string) error {
	if origin == "" || len(origin) > 200 || !utf8.ValidString(origin) || strings.ContainsRune(origin, '+') ||
		strings.ContainsFunc(origin, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w origin %.80q: write a name such as waymark.example.org/audit, without spaces and plus signs", release.ErrInvalid, origin)
	}
	return nil
}

// NewKey makes a key for the log: signer is the private half, verifier what
// clients check checkpoints with.
func NewKey(origin string) (signer, verifier string, err error) {
	if err := CheckOrigin(origin); err != nil {
		return "", "", err
	}
	signer, verifier, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", "", fmt.Errorf("making a key for checkpoints: %w", err)
	}
	return signer, verifier, nil
}

// VerifierOf gives the public half of a signer, and the origin that it signs
// for. The error wraps release.ErrInvalid, and does not repeat the key.
func VerifierOf(signer string) (verifier, origin string, err error) {
	wrong := fmt.Errorf("%w audit key: it is none of the form PRIVATE+KEY+<origin>+<hash>+<key>, as `waymark audit new-key` prints it", release.ErrInvalid)
	s, err := note.NewSigner(signer)
	if err != nil {
		return "", "", wrong
	}
	fields := strings.SplitN(strings.TrimPrefix(signer, "PRIVATE+KEY+"), "+", 3)
	if len(fields) != 3 {
		return "", "", wrong
	}
	seed, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", "", wrong
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if verifier, err = note.NewEd25519VerifierKey(s.Name(), public); err != nil {
		return "", "", wrong
	}
	return verifier, s.Name(), CheckOrigin(s.Name())
}

// Sign makes the signed checkpoint of a head. The origin is that of the key.
func Sign(signer string, head Head) (string, error) {
	s, err := note.NewSigner(signer)
	if err != nil {
		return "", fmt.Errorf("%w audit key: it cannot sign: make a new one", release.ErrInvalid)
	}
	text := s.Name() + "\n" + strconv.FormatInt(head.Size, 10) + "\n" + head.Root + "\n"
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("signing the audit log's head: %w", err)
	}
	return string(signed), nil
}

// ErrNotSigned says that none of the keys at hand has signed a checkpoint.
var ErrNotSigned = errors.New("no known key has signed the checkpoint")

// OpenCheckpoint reads a signed checkpoint. At least one of the verifiers, in
// their text form, must have signed it, under the name that is its origin; by is
// that one. Errors wrap ErrNotSigned, or release.ErrInvalid for what is no
// checkpoint or no verifier.
func OpenCheckpoint(signed string, verifiers ...string) (c Checkpoint, by string, err error) {
	if len(signed) > maxCheckpoint {
		return c, "", fmt.Errorf("%w checkpoint: it has more than %d bytes", release.ErrInvalid, maxCheckpoint)
	}
	var known []note.Verifier
	texts := map[string]string{}
	for _, text := range verifiers {
		v, err := note.NewVerifier(strings.TrimSpace(text))
		if err != nil {
			return c, "", fmt.Errorf("%w key %.100q: it is no verifier of the form <origin>+<hash>+<key>, as GET audit/keys lists them", release.ErrInvalid, text)
		}
		key := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
		if _, twice := texts[key]; !twice {
			known, texts[key] = append(known, v), strings.TrimSpace(text)
		}
	}
	n, err := note.Open([]byte(signed), note.VerifierList(known...))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		var by []string
		for _, s := range unverified.Note.UnverifiedSigs {
			by = append(by, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
		}
		return c, "", fmt.Errorf("%w: it is signed by %s", ErrNotSigned, strings.Join(by, ", "))
	case err != nil:
		return c, "", fmt.Errorf("%w: it does not verify: %w", ErrNotSigned, err)
	}
	if c, err = parseCheckpoint(n.Text); err != nil {
		return c, "", err
	}
	for _, s := range n.Sigs {
		if s.Name == c.Origin {
			return c, texts[fmt.Sprintf("%s+%08x", s.Name, s.Hash)], nil
		}
	}
	return c, "", fmt.Errorf("%w: its origin is %q, and it is signed by %q", ErrNotSigned, c.Origin, n.Sigs[0].Name)
}

// parseCheckpoint reads the text of a note. Lines after the third are extensions
// that nobody here needs.
func parseCheckpoint(text string) (Checkpoint, error) {
	wrong := fmt.Errorf("%w checkpoint: it has not the three lines of origin, size and root", release.ErrInvalid)
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, wrong
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, wrong
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, wrong
	}
	return Checkpoint{Origin: lines[0], Head: Head{Size: size, Root: lines[2]}}, nil
}
