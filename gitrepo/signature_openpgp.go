package gitrepo

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/waymark-cd/waymark/release"
)

// openpgpKey is a primary key or one of its subkeys, which one file gave.
type openpgpKey struct {
	of      *openpgp.Entity
	key     *packet.PublicKey
	binding *packet.Signature   // of a subkey to its primary key; nil for the primary key
	revoked []*packet.Signature // of a subkey
}

// armorBegin opens every armoured block of OpenPGP.
const armorBegin = "-----BEGIN PGP "

// parseOpenPGP reads a file of public keys.
func parseOpenPGP(file string, data []byte) (keys []openpgpKey, problems []KeyProblem) {
	report := func(line int, format string, args ...any) {
		problems = append(problems, KeyProblem{File: file, Line: line, Text: fmt.Sprintf(format, args...)})
	}
	if !bytes.Contains(data, []byte(armorBegin)) {
		found, err := readOpenPGPKeys(bytes.NewReader(data))
		if err != nil {
			report(0, "%v", err)
		}
		return found, problems
	}
	for number, text := range armoredBlocks(data) {
		block, err := armor.Decode(strings.NewReader(text))
		switch {
		case err != nil:
			report(number, "the armoured block cannot be read: %v: export the key anew with gpg --armor --export", orCutShort(err))
		case block.Type == openpgp.PrivateKeyType:
			report(number, "this is a private key: take it away from here, and write what gpg --armor --export gives")
		case block.Type != openpgp.PublicKeyType:
			report(number, "this is no public key but a %s: write what gpg --armor --export gives", clip(block.Type))
		default:
			found, err := readOpenPGPKeys(block.Body)
			if err != nil {
				report(number, "%v", err)
			}
			keys = append(keys, found...)
		}
	}
	return keys, problems
}

// armoredBlocks splits a file before each line that opens a block, and gives each
// with the number of that line, in order.
func armoredBlocks(data []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		var block strings.Builder
		number, began := 0, 0
		for line := range strings.Lines(string(data)) {
			number++
			if strings.HasPrefix(strings.TrimSpace(line), armorBegin) {
				if began > 0 && !yield(began, block.String()) {
					return
				}
				block.Reset()
				began = number
			}
			if began > 0 {
				block.WriteString(line)
			}
		}
		if began > 0 {
			yield(began, block.String())
		}
	}
}

// readOpenPGPKeys reads transferable public keys one after the other, all or none.
func readOpenPGPKeys(in io.Reader) ([]openpgpKey, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %w", orCutShort(err))
	}
	if err := checkPackets(data); err != nil {
		return nil, err
	}
	var keys []openpgpKey
	packets := packet.NewReader(bytes.NewReader(data))
	for n := 1; ; n++ {
		entity, err := openpgp.ReadEntity(packets)
		switch {
		case errors.Is(err, io.EOF) && n > 1:
			return keys, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("there is no key: write what gpg --armor --export gives")
		case err != nil:
			return nil, fmt.Errorf("key %d cannot be read: %w: a revocation certificate alone is none; import it with gpg and export the key anew", n, err)
		}
		keys = append(keys, openpgpKey{of: entity, key: entity.PrimaryKey})
		for _, sub := range entity.Subkeys {
			keys = append(keys, openpgpKey{of: entity, key: sub.PublicKey, binding: sub.Sig, revoked: sub.Revocations})
		}
	}
}

// checkPackets refuses what the library would skip without a word: a key of a
// kind that it does not know, or a signature that might be a revocation.
func checkPackets(data []byte) error {
	packets := packet.NewReader(bytes.NewReader(data))
	for {
		p, err := packets.NextWithUnsupported()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the key cannot be read: %w: export it anew with gpg --armor --export", orCutShort(err))
		}
		switch p := p.(type) {
		case *packet.PrivateKey:
			return errors.New("this is a private key: take it away from here, and write what gpg --armor --export gives")
		case *packet.UnsupportedPacket:
			sig, isSignature := p.IncompletePacket.(*packet.Signature)
			_, isKey := p.IncompletePacket.(*packet.PublicKey)
			if isKey || isSignature && (sig.SigType < packet.SigTypeGenericCert || sig.SigType > packet.SigTypePositiveCert) {
				return fmt.Errorf("a part of it is of a kind that is not supported: %w: export the key with gpg --export-options export-minimal", p.Error)
			}
		}
	}
}

// orCutShort says what the end of a file in the middle means.
func orCutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut short")
	}
	return err
}

func (s *Signers) verifyOpenPGP(t SignedTag, now time.Time) (release.Signer, error) {
	if err := oneBlock(t.Armor, "-----END PGP SIGNATURE-----"); err != nil {
		return release.Signer{}, err
	}
	sig, err := readOpenPGPSignature(t.Armor)
	if err != nil {
		return release.Signer{}, err
	}
	var accepted release.Signer
	var refusal error
	for _, key := range s.openpgp {
		if !key.made(sig) {
			continue
		}
		signer, err := key.verify(t.Payload, sig, now)
		var bad *release.SignatureError
		switch {
		case err == nil:
			accepted = signer
		case errors.As(err, &bad) && bad.Fault == release.SignatureRevoked:
			return release.Signer{}, err // an older copy of the key does not count
		case refusal == nil:
			refusal = err
		}
	}
	switch {
	case accepted != (release.Signer{}):
		return accepted, nil
	case refusal != nil:
		return release.Signer{}, refusal
	}
	name := openpgpIssuer(sig)
	return release.Signer{}, release.RefuseSignature(release.SignatureUnknownKey, name,
		"the tag is signed with the OpenPGP key %s, which is not known", name)
}

// readOpenPGPSignature reads the one signature of an armoured block.
func readOpenPGPSignature(text []byte) (*packet.Signature, error) {
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, damaged("%v", orCutShort(err))
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, maxSignatureBytes))
	if err != nil {
		return nil, damaged("%v", orCutShort(err))
	}
	in := bytes.NewReader(body)
	p, err := packet.Read(in)
	var unsupported pgperrors.UnsupportedError
	var unknown pgperrors.UnknownPacketTypeError
	sig, ok := p.(*packet.Signature)
	switch {
	case errors.As(err, &unsupported) || errors.As(err, &unknown):
		return nil, release.RefuseSignature(release.SignatureUnsupported, "", "the tag's signature is of a kind that is not verified: %v", err)
	case err != nil:
		return nil, damaged("%v", orCutShort(err))
	case !ok:
		return nil, damaged("there is no signature in it")
	case in.Len() > 0:
		return nil, release.RefuseSignature(release.SignatureUnsupported, "",
			"the tag's signature is followed by another: sign with one key")
	case sig.IssuerKeyId == nil && len(sig.IssuerFingerprint) == 0:
		return nil, damaged("it does not say which key made it")
	}
	return sig, nil
}

// openpgpIssuer names the key that a signature says it is made with.
func openpgpIssuer(sig *packet.Signature) string {
	if len(sig.IssuerFingerprint) > 0 {
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	}
	return fmt.Sprintf("%016X", *sig.IssuerKeyId)
}

// made reports whether a signature says that it is made with the key.
func (k openpgpKey) made(sig *packet.Signature) bool {
	if len(sig.IssuerFingerprint) > 0 {
		return bytes.Equal(sig.IssuerFingerprint, k.key.Fingerprint)
	}
	return *sig.IssuerKeyId == k.key.KeyId
}

// goodHashes are those that no collision is known for, or expected.
var goodHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}

// leastRSABits is the shortest RSA key that counts.
const leastRSABits = 2048

// verify holds a signature against the key: first whether the key made it over
// these bytes, then whether it might.
func (k openpgpKey) verify(payload []byte, sig *packet.Signature, now time.Time) (release.Signer, error) {
	self := k.identity()
	signer := release.Signer{Name: self.name, Key: fmt.Sprintf("%X", k.key.Fingerprint), Kind: "OpenPGP"}
	refuse := func(fault release.SignatureFault, format string, args ...any) (release.Signer, error) {
		return release.Signer{}, release.RefuseSignature(fault, signer.Key, "the OpenPGP key %s of %s "+format,
			append([]any{signer.Key, signer.Name}, args...)...)
	}
	if what := k.weakness(sig); what != "" {
		return refuse(release.SignatureUnsupported, "made a signature that does not count: %s", what)
	}
	hash, err := sig.PrepareVerify()
	if err != nil {
		return refuse(release.SignatureUnsupported, "made a signature that does not count: %v", err)
	}
	hash.Write(payload)
	if err := k.key.VerifySignature(hash, sig); err != nil {
		return refuse(release.SignatureAltered, "did not sign this: the tag was altered after it was signed")
	}
	switch {
	case len(k.of.Revocations) > 0 || len(k.revoked) > 0 || self.revoked:
		return refuse(release.SignatureRevoked, "is revoked: sign with another key")
	case !k.maySign(self.signature):
		return refuse(release.SignatureWrongUse, "is not meant for signing: sign with a key that is")
	case sig.CreationTime.After(now.Add(clockSkew)):
		return refuse(release.SignatureNotYetValid, "signed at %s, which is in the future: correct the clock and sign again", moment(sig.CreationTime))
	case sig.CreationTime.Before(k.key.CreationTime):
		return refuse(release.SignatureNotYetValid, "was made at %s, after the signature of %s: correct the clock and sign again",
			moment(k.key.CreationTime), moment(sig.CreationTime))
	}
	for _, end := range k.ends(self.signature) {
		if now.After(end) || sig.CreationTime.After(end) {
			return refuse(release.SignatureExpired, "expired at %s: prolong it and have the service given the new copy, or sign with another key", moment(end))
		}
	}
	if end := lifetime(sig.CreationTime, sig.SigLifetimeSecs); !end.IsZero() && now.After(end) {
		return refuse(release.SignatureExpired, "made a signature that expired at %s: sign again", moment(end))
	}
	return signer, nil
}

// weakness says why a signature does not count, whoever made it; "" where it does.
func (k openpgpKey) weakness(sig *packet.Signature) string {
	bits, err := k.key.BitLength()
	switch {
	case sig.SigType != packet.SigTypeBinary:
		return "it is of a type that git does not make"
	case !slices.Contains(goodHashes, sig.Hash):
		return fmt.Sprintf("its hash %s is too weak; sign with SHA-256 or longer", sig.Hash)
	case slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.IsCritical }):
		return "it has a critical notation, which is not understood"
	}
	switch k.key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if err != nil || bits < leastRSABits {
			return fmt.Sprintf("RSA keys need %d bits, and this one has %d", leastRSABits, bits)
		}
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448:
	default:
		return "its algorithm is not verified; sign with an Ed25519, ECDSA or RSA key"
	}
	return ""
}

// maySign reports whether the key is marked for signing.
func (k openpgpKey) maySign(self *packet.Signature) bool {
	if k.binding != nil {
		self = k.binding
	}
	return self != nil && self.FlagsValid && self.FlagSign
}

// ends are the times at which the key ceases to be valid: its own, that of its
// primary key, and those of the signatures that say so.
func (k openpgpKey) ends(self *packet.Signature) []time.Time {
	all := []time.Time{lifetime(k.of.PrimaryKey.CreationTime, self.KeyLifetimeSecs), lifetime(self.CreationTime, self.SigLifetimeSecs)}
	if k.binding != nil {
		all = append(all, lifetime(k.key.CreationTime, k.binding.KeyLifetimeSecs), lifetime(k.binding.CreationTime, k.binding.SigLifetimeSecs))
	}
	return slices.DeleteFunc(all, time.Time.IsZero)
}

// lifetime is when something ends; zero where it never does.
func lifetime(from time.Time, seconds *uint32) time.Time {
	if seconds == nil || *seconds == 0 {
		return time.Time{}
	}
	return from.Add(time.Duration(*seconds) * time.Second)
}

// identity is who a key belongs to, as its newest valid self-signature says it.
type identity struct {
	name      string
	signature *packet.Signature
	revoked   bool
}

// identity chooses the user id that stands for the key: one that is not revoked,
// rather the one marked as primary, rather the newest, and of equals the first
// by name.
func (k openpgpKey) identity() identity {
	var best identity
	rank := func(i identity) int {
		n := 0
		if !i.revoked {
			n += 2
		}
		if p := i.signature.IsPrimaryId; p != nil && *p {
			n++
		}
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(k.of.Identities)) {
		id := k.of.Identities[name]
		if id.SelfSignature == nil {
			continue
		}
		this := identity{name: clip(name), signature: id.SelfSignature, revoked: len(id.Revocations) > 0}
		if best.signature == nil || rank(this) > rank(best) ||
			rank(this) == rank(best) && this.signature.CreationTime.After(best.signature.CreationTime) {
			best = this
		}
	}
	if k.of.SelfSignature != nil { // version 6 needs no user id
		best.signature = k.of.SelfSignature
	}
	if best.name == "" {
		best.name = "nobody by name"
	}
	return best
}
