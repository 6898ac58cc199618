package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"

	"github.com/waymark-cd/waymark/tagparse"
)

// The functions in this file judge one string. They return what is wrong with
// it and what to write instead, or two empty strings.

// checkName judges an environment, a team or a repository, by the tag grammar.
func checkName(s string) (summary, detail string) {
	if _, _, _, err := tagparse.ParseTarget(s + "_global/team"); err == nil {
		return "", ""
	}
	return fmt.Sprintf("cannot be %q", short(s)),
		"write a lower-case letter, then letters, digits and single hyphens, 32 at most"
}

// checkRegion judges a Region, by the tag grammar.
func checkRegion(s string) (summary, detail string) {
	switch {
	case s == tagparse.Global:
		return `cannot be "global"`, "it is no Region; set global_region and tags may say global"
	case !isScope(s):
		return fmt.Sprintf("cannot be %q", short(s)), "write an AWS Region such as us-east-1"
	}
	return "", ""
}

// accountForm is an AWS account id.
var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

func checkAccount(s string) (summary, detail string) {
	if accountForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("cannot be %q", short(s)), "an account is 12 digits; put them in quotes to keep leading zeros"
}

// roleForm is the ARN of a role; the group is its account.
var roleForm = regexp.MustCompile(`^arn:aws[a-z0-9-]*:iam::([0-9]{12}):role/[A-Za-z0-9+=,.@_/-]{1,576}$`)

func checkRole(s string) (summary, detail string) {
	if s == "" || roleForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no role: %q", short(s)), "write an ARN such as arn:aws:iam::111122223333:role/Name"
}

// moduleForm is a resource or module address, as far as characters go.
var moduleForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.\-]*(\[("[^"\\]*"|[0-9]+)\][A-Za-z0-9_.\-]*)*$`)

func checkModule(s string) (summary, detail string) {
	if s == "" || len(s) <= 256 && moduleForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no address: %q", short(s)), "write one such as module.regional"
}

// variableForm is the name of a variable of the code.
var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// backendTypeForm is the type of a backend.
var backendTypeForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func checkBackendType(s string) (summary, detail string) {
	if backendTypeForm.MatchString(s) {
		return "", ""
	}
	return "is no backend type", `write one such as "s3"`
}

func checkNotEmpty(s string) (summary, detail string) {
	if s != "" {
		return "", ""
	}
	return "is empty", "write a value, or take the block out"
}

// checkListen judges an address to listen on.
func checkListen(s string) (summary, detail string) {
	host, port, err := net.SplitHostPort(s)
	n, notNumber := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || notNumber != nil || port != strconv.FormatUint(n, 10):
		return fmt.Sprintf("is no address: %q", short(s)), `write host:port, such as "127.0.0.1:8080"`
	case host != "" && net.ParseIP(host) == nil && !hostForm.MatchString(host):
		return fmt.Sprintf("names no host: %q", short(host)), `write an IP address or a host name`
	}
	return "", ""
}

// hostForm is a host name.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// isLoopback reports whether an address that checkListen accepts is reachable
// from this machine alone.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// checkDatabase judges a database. It must not repeat it: it may hold a password.
func checkDatabase(s string) (summary, detail string) {
	const write = `write "sqlite", or "postgres://user:password@host/name"`
	if s == "sqlite" {
		return "", ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "is no database", write
	}
	return "", ""
}

// checkConstraint judges a version or a constraint on versions.
func checkConstraint(s string) (summary, detail string) {
	if _, err := version.NewConstraint(s); err != nil {
		return fmt.Sprintf("is no version: %q", short(s)), `write one such as "1.12.6" or ">= 1.10, < 2.0"`
	}
	return "", ""
}

// branchForm is a branch's name, as far as it can do harm.
var branchForm = regexp.MustCompile(`^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$`)

func checkBranch(s string) (summary, detail string) {
	if !branchForm.MatchString(s) || strings.Contains(s, "..") || strings.HasPrefix(s, "refs/") {
		return fmt.Sprintf("is no branch: %q", short(s)), `write its name alone, such as "main"`
	}
	return "", ""
}

// checkCheckID judges the id of a Checkov check, or a pattern of them.
func checkCheckID(s string) (summary, detail string) {
	switch strings.ToUpper(s) {
	case "LOW", "MEDIUM", "HIGH", "CRITICAL":
		return fmt.Sprintf("cannot be %q", s), "checkov knows no severities without its platform; name checks, such as \"CKV_AWS_18\""
	}
	if checkIDForm.MatchString(s) {
		return "", ""
	}
	return fmt.Sprintf("is no check: %q", short(s)), `write an id such as "CKV_AWS_18"`
}

var checkIDForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_*]*$`)

// checkPattern judges a pattern of sources.
func checkPattern(s string) (summary, detail string) {
	if s == "" || strings.ContainsAny(s, " \t,") {
		return fmt.Sprintf("is no pattern: %q", short(s)), `write one per source, such as "hashicorp/*"`
	}
	return "", ""
}

// scpForm is git's short form of an SSH URL, user@host:path.
var scpForm = regexp.MustCompile(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:].*$`)

// transport says how a repository's URL is reached: "http", "https", "ssh",
// "file", or "" where it is no URL that Waymark takes.
func transport(s string) string {
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return ""
		}
		switch u.Scheme {
		case "http", "https", "ssh":
			if u.Host == "" || strings.HasPrefix(u.Host, "-") {
				return ""
			}
			return u.Scheme
		case "file":
			return u.Scheme
		}
		return ""
	}
	switch {
	case s == "" || strings.HasPrefix(s, "-") || strings.Contains(s, "::"):
		return ""
	case scpForm.MatchString(s):
		return "ssh"
	case strings.Contains(s, ":"):
		return ""
	}
	return "file"
}

// checkURL judges a repository's URL. It must not repeat one that may hold a
// password, or a token in the user's place.
func checkURL(s string) (summary, detail string) {
	way := transport(s)
	if u, err := url.Parse(s); err == nil && way != "" && u.User != nil {
		if _, has := u.User.Password(); has || way != "ssh" {
			return "holds a user name or password", `write username = "..." and password = env("GIT_PASSWORD")`
		}
	}
	if way == "" {
		return "is no repository", "write https://host/path, ssh://user@host/path, user@host:path or a folder"
	}
	return "", ""
}
