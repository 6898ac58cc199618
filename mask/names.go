package mask

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	secretName = regexp.MustCompile(`(?i)secret|token|passw|passphrase|pwd|credential|private|api_?key|access_?key|account_?key|encryption_?key|customer_?key|conn_str|(?:^|_)auth$|(?:_|^)pat$`)
	keyName    = regexp.MustCompile(`(?i)_key(_id)?$|^[a-z]*key$`)
	// plainName are variables that name places and ways, of which only what is
	// inside of a URL can be secret.
	plainName = regexp.MustCompile(`^(?:TF_VAR_.*|[A-Za-z0-9_]*(?:REGION|PROXY|proxy|ENDPOINTS?|ENDPOINT_URL[A-Z0-9_]*|BUNDLE|FILE|DIR|PATH|PROFILE|SESSION_NAME|DISABLED|ROLE_ARN)|HOME|LANG|LC_[A-Z]+|TZ|USER|AWS_[A-Z_]*URL[A-Z0-9_]*)$`)
	region    = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
)

// SecretName reports whether a name says that what it names is secret, such as
// that of a password. Names of keys of another kind, such as the key of an object
// in a bucket, are none.
func SecretName(name string) bool { return secretName.MatchString(name) }

// OfVariable gives what of an environment variable's value is secret: all of it
// unless its name or its value say that it is none, and then a password in it.
func OfVariable(name, value string) []string {
	if SecretName(name) || keyName.MatchString(name) {
		return []string{value}
	}
	if plainName.MatchString(name) || plainValue(value) {
		return InURL(value)
	}
	return []string{value}
}

// InURL gives the password in a URL, as it is written and as it is meant; nothing
// where there is none.
func InURL(value string) []string {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return nil
	}
	password, ok := u.User.Password()
	if !ok {
		return nil
	}
	written, _, _ := strings.Cut(strings.TrimPrefix(u.User.String(), url.User(u.User.Username()).String()+":"), "@")
	return []string{password, written}
}

// plainValue are values that cannot be secret by what they look like.
func plainValue(v string) bool {
	if len(v) < 8 || filepath.IsAbs(v) || region.MatchString(v) {
		return true
	}
	u, err := url.Parse(v)
	return err == nil && u.Scheme != "" && u.Host != "" && u.User == nil && u.RawQuery == ""
}
