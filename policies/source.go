package policies

import (
	"path"
	"strings"
)

// builtinProvider is part of the engine.
const builtinProvider = "terraform.io/builtin/terraform"

// publicRegistries are the hosts that an address without a host stands for:
// which one depends on the engine.
var publicRegistries = [...]string{"registry.terraform.io/", "registry.opentofu.org/"}

// providerAddress gives the normal form of a provider's source: lower case,
// with the namespace, without the host of a public registry. It is empty where
// the source is malformed; look-alikes in Unicode, dots that climb or trail and
// control characters all are.
func providerAddress(source string) string {
	if !isPrintableASCII(source) {
		return ""
	}
	parts := strings.Split(strings.ToLower(source), "/")
	switch len(parts) {
	case 1:
		parts = []string{"hashicorp", parts[0]}
	case 3:
		if !isHost(parts[0]) {
			return ""
		}
	}
	last := len(parts) - 1
	if len(parts) > 3 || !isProviderPart(parts[last]) || !isProviderPart(parts[last-1]) {
		return ""
	}
	return withoutPublicRegistry(strings.Join(parts, "/"))
}

// impliedAddress is the address of a provider that a module uses under a name
// which it does not declare.
func impliedAddress(name string) string {
	if name == "terraform" {
		return builtinProvider
	}
	if strings.Contains(name, "/") {
		return ""
	}
	return providerAddress(name)
}

// isProviderPart reports whether s is a namespace or a type in lower case.
func isProviderPart(s string) bool {
	if s == "" || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}

// isHost reports whether s is a host's name in lower case with an optional port.
func isHost(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isProviderPart(label) {
			return false
		}
	}
	return true
}

// moduleAddress gives the normal form of a module's source that is no local
// path, and its query with the "?". Both are empty where the source is
// malformed or has dots that climb.
func moduleAddress(source string) (address, query string) {
	if !isPrintableASCII(source) || strings.Contains(source, `\`) {
		return "", ""
	}
	if i := strings.IndexByte(source, '?'); i >= 0 {
		source, query = source[:i], source[i:]
	}
	for segment := range strings.SplitSeq(source, "/") {
		if segment == "." || segment == ".." {
			return "", ""
		}
	}
	return withoutPublicRegistry(foldHost(source)), query
}

// foldHost puts scheme and host of a module's source into lower case. What
// follows them may depend on case.
func foldHost(source string) string {
	forced, rest := "", source
	if i := strings.LastIndex(source, "::"); i >= 0 {
		forced, rest = strings.ToLower(source[:i+2]), source[i+2:]
	}
	scheme := ""
	if i := strings.Index(rest, "://"); i >= 0 {
		scheme, rest = strings.ToLower(rest[:i+3]), rest[i+3:]
	}
	authority, tail := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, host := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, host = authority[:i+1], authority[i+1:]
	}
	switch {
	case scheme != "":
		host = strings.ToLower(host)
	case user != "": // git@host:path
		name, _, _ := strings.Cut(host, ":")
		host = strings.ToLower(name) + host[len(name):]
	case strings.Contains(host, "."):
		host = strings.ToLower(host)
	}
	return forced + scheme + user + host + tail
}

// isLocalSource reports whether the engines read a module's source as a path of
// the file system, relative or absolute.
func isLocalSource(source string) bool {
	s := strings.ReplaceAll(source, `\`, "/")
	return s == "." || s == ".." || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || isForeignPath(source)
}

// isForeignPath reports whether a source is a path of the file system that is
// not relative to the module: an absolute one, a file URL, or either of them or
// a relative path behind a forced getter such as "git::".
func isForeignPath(source string) bool {
	s := strings.ToLower(strings.ReplaceAll(source, `\`, "/"))
	drive := len(s) > 2 && 'a' <= s[0] && s[0] <= 'z' && s[1:3] == ":/"
	return drive || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~") ||
		strings.HasPrefix(s, "file:") || strings.Contains(s, "::file:") || strings.Contains(s, "::/") || strings.Contains(s, "::.")
}

// localFolder is where a local source in the folder dir leads, relative to the
// repository; ok is false where that is outside.
func localFolder(dir, source string) (folder string, ok bool) {
	if isForeignPath(source) {
		return "", false
	}
	folder = path.Join(dir, strings.ReplaceAll(source, `\`, "/"))
	if folder == ".." || strings.HasPrefix(folder, "../") {
		return "", false
	}
	return folder, true
}

// withoutPublicRegistry takes the host of a public registry off an address or a
// pattern. What is left must not read as another host.
func withoutPublicRegistry(address string) string {
	for _, host := range publicRegistries {
		rest, ok := strings.CutPrefix(address, host)
		if namespace, _, more := strings.Cut(rest, "/"); ok && more && !strings.ContainsAny(namespace, ".:") {
			return rest
		}
	}
	return address
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
