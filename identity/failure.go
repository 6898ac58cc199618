package identity

import "fmt"

// Why says in one word why somebody was not let in, for metrics.
type Why string

// The reasons.
const (
	Malformed   Why = "malformed"   // no token of any kind
	Unknown     Why = "unknown"     // a token that is not on record, or an issuer that is not configured
	Revoked     Why = "revoked"     // an API token
	Expired     Why = "expired"     // also a session
	TooEarly    Why = "too_early"   // an ID token of the future, by this machine's clock
	Signature   Why = "signature"   // of an ID token
	Audience    Why = "audience"    // an ID token for another service
	Claims      Why = "claims"      // an ID token that names nobody
	Login       Why = "login"       // a login that was not begun here, or that the issuer refused
	Unavailable Why = "unavailable" // the issuer does not answer
	Limited     Why = "limited"     // too many failures before
)

// Failure is why somebody was not let in. What it says is for the caller.
type Failure struct {
	Why    Why
	Detail string
	// Cause is for the log alone.
	Cause error
}

// Error prints the detail.
func (f *Failure) Error() string { return f.Detail }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Cause }

func failf(why Why, cause error, format string, args ...any) error {
	return &Failure{Why: why, Detail: fmt.Sprintf(format, args...), Cause: cause}
}
