package gitrepo

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// address is where a remote lives, parsed.
type address struct {
	scheme         string // http, https, ssh or file
	user, password string
	host           string // with the port where the URL has one
	path           string // ssh: as the server's shell gets it; file: absolute
	scp            bool   // written as user@host:path
}

// shown prints the address for people, without password or token.
func (a address) shown() string {
	switch {
	case a.scheme == "file":
		return a.path
	case a.scp:
		return a.userAt() + a.host + ":" + a.path
	case a.scheme == "ssh":
		return "ssh://" + a.userAt() + a.host + "/" + strings.TrimPrefix(a.path, "/")
	}
	// A token is often given as the user: HTTP shows none.
	return a.scheme + "://" + a.host + a.path
}

func (a address) userAt() string {
	if a.user == "" {
		return ""
	}
	return a.user + "@"
}

// parseAddress reads a remote's URL. Its errors never repeat the URL, which may
// hold a password.
func parseAddress(raw string) (address, error) {
	scheme, _, hasScheme := strings.Cut(raw, "://")
	switch {
	case raw == "":
		return address{}, errors.New("no url is set")
	case strings.ContainsAny(raw, "\x00\r\n"):
		return address{}, errors.New("the url holds control characters")
	case !hasScheme && isSCP(raw):
		return parseSCP(raw)
	case !hasScheme:
		path, err := filepath.Abs(raw)
		return address{scheme: "file", path: path}, err
	}
	switch scheme {
	case "http", "https", "ssh", "file":
	default:
		return address{}, fmt.Errorf("the url's scheme %q is not supported: use https, http, ssh or file", clip(scheme))
	}
	u, err := url.Parse(raw)
	if err != nil {
		return address{}, errors.New("the url cannot be parsed: check for characters that need %-escapes")
	}
	return fromURL(u)
}

func fromURL(u *url.URL) (address, error) {
	a := address{scheme: u.Scheme, host: u.Host, path: u.Path, user: u.User.Username()}
	a.password, _ = u.User.Password()
	if u.RawQuery != "" || u.Fragment != "" {
		return address{}, errors.New("the url has a query or a fragment: leave it out")
	}
	switch a.scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return address{}, errors.New("a file url names a host: write file:///path")
		}
		a.host = ""
		a.path = filepath.Clean(a.path)
	case "ssh":
		if a.password != "" {
			return address{}, errors.New("the ssh url holds a password: use a key file")
		}
		a.path = homePath(a.path)
	default:
		a.path = strings.TrimSuffix(u.EscapedPath(), "/")
	}
	if a.scheme != "file" && u.Hostname() == "" {
		return address{}, errors.New("the url names no host")
	}
	if a.path == "" || a.path == "/" {
		return address{}, errors.New("the url names no repository path")
	}
	return a, nil
}

// isSCP tells host:path from a local path the way git does: a colon before the
// first slash.
func isSCP(raw string) bool {
	colon := strings.IndexByte(raw, ':')
	slash := strings.IndexByte(raw, '/')
	return colon > 0 && (slash < 0 || colon < slash)
}

func parseSCP(raw string) (address, error) {
	where, path, _ := strings.Cut(raw, ":")
	user, host, hasUser := strings.Cut(where, "@")
	if !hasUser {
		user, host = "", where
	}
	if host == "" || path == "" {
		return address{}, errors.New("the url is neither user@host:path nor a url with a scheme")
	}
	return address{scheme: "ssh", scp: true, user: user, host: host, path: path}, nil
}

// homePath turns /~user/x into ~user/x, as git does for ssh URLs.
func homePath(path string) string {
	if strings.HasPrefix(path, "/~") {
		return path[1:]
	}
	return path
}

// checkBranch holds a branch name against the rules of git check-ref-format
// that matter for putting it into a request.
func checkBranch(name string) error {
	switch {
	case name == "":
		return errors.New("no branch is set")
	case strings.HasPrefix(name, "refs/"):
		return fmt.Errorf("branch %q: write it without refs/heads/", clip(name))
	case len(name) > maxRefName || strings.ContainsAny(name, " ~^:?*[\\") || hasControl(name) ||
		strings.Contains(name, "..") || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "/"):
		return fmt.Errorf("branch %q is no valid branch name", clip(name))
	}
	return nil
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) >= 0
}

// clip shortens outside text for a message; the caller quotes it.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
