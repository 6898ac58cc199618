package config

import "log/slog"

// redacted is what a secret shows of itself.
const redacted = "(redacted)"

// Secret is a string that never prints itself: its String, GoString, JSON,
// text and log forms say "(redacted)", or nothing where it is empty.
type Secret struct {
	value string
}

// NewSecret makes a secret of value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the value itself. Call it where the value is used, no earlier.
func (s Secret) Reveal() string { return s.value }

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != "" }

// String returns the redacted form.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// GoString returns the redacted form.
func (s Secret) GoString() string { return `config.Secret("` + s.String() + `")` }

// MarshalText returns the redacted form; encoding/json uses it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns the redacted form.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
