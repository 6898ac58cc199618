package credentials

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Session is what AssumeRole gave. Printed, logged or written as JSON it shows
// whose it is and how long it lasts, never its keys.
type Session struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	Expires         time.Time
	RoleARN         string // the role that was assumed
	ARN             string // of the session, as CloudTrail and policies name it
	Name            string // the role session's name
}

// String tells of the session without its keys.
func (s Session) String() string {
	return fmt.Sprintf("session %s of %s until %s", s.Name, s.RoleARN, s.Expires.UTC().Format(time.RFC3339))
}

// Format prints String for every verb.
func (s Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON leaves the keys out.
func (s Session) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Role    string    `json:"role"`
		Name    string    `json:"name"`
		Expires time.Time `json:"expires"`
	}{s.RoleARN, s.Name, s.Expires})
}

// LogValue leaves the keys out.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(slog.String("role", s.RoleARN), slog.String("name", s.Name), slog.Time("expires", s.Expires))
}

// processJSON is the session in the form that a credential_process prints.
func (s Session) processJSON() []byte {
	text, err := json.Marshal(struct {
		Version         int
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}{1, s.AccessKeyID, s.SecretAccessKey, s.SessionToken, s.Expires.UTC().Format(time.RFC3339)})
	if err != nil {
		panic(err) // strings and a number can always be written
	}
	return append(text, '\n')
}
