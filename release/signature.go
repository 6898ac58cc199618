package release

import "fmt"

// Signer is who signed a tag, as the keys of the configuration say it.
type Signer struct {
	Name string // a user id of an OpenPGP key, or a principal of an SSH key
	Key  string // fingerprint: hexadecimal for OpenPGP, SHA256:… for SSH
	Kind string // "OpenPGP" or "SSH"
}

// String prints a signer for people.
func (s Signer) String() string { return fmt.Sprintf("%s (%s key %s)", s.Name, s.Kind, s.Key) }

// SignatureFault is what is wrong with a tag's signature.
type SignatureFault string

// What may be wrong with a signature. Those from SignatureExpired on are faults of
// a signature by a known key.
const (
	Unsigned             SignatureFault = "unsigned"
	SignatureUnsupported SignatureFault = "unsupported"     // of a kind, or by an algorithm, that is not verified
	SignatureUnknownKey  SignatureFault = "unknown key"     // by a key that was not given
	SignatureExpired     SignatureFault = "expired"         // the key or the signature is no longer valid, or was not when it signed
	SignatureNotYetValid SignatureFault = "not yet valid"   // the key or the signature begins to be valid later
	SignatureWrongUse    SignatureFault = "wrong namespace" // made for something else than git's objects
	SignatureWrongSigner SignatureFault = "wrong signer"    // the key is known, and may not sign this
	SignatureRevoked     SignatureFault = "revoked"         // the key was revoked
	SignatureAltered     SignatureFault = "altered"         // the signature covers other bytes, or is damaged
)

// SignatureError is a signature that is not accepted. It wraps ErrRefused.
type SignatureError struct {
	Fault  SignatureFault
	Key    string // fingerprint, or key id where the signature tells no more; empty where there is none
	Reason string // a sentence for people
}

// Error says what is wrong.
func (e *SignatureError) Error() string { return ErrRefused.Error() + ": " + e.Reason }

// Unwrap returns ErrRefused.
func (e *SignatureError) Unwrap() error { return ErrRefused }

// RefuseSignature makes a SignatureError.
func RefuseSignature(fault SignatureFault, key, format string, args ...any) error {
	return &SignatureError{Fault: fault, Key: key, Reason: fmt.Sprintf(format, args...)}
}
