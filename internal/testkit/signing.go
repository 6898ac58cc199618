package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Signing is how git signs a tag: with which of its settings, environment and
// clock.
type Signing struct {
	Config []string // NAME=VALUE
	Env    []string
	At     time.Time // of the tagger; zero is now
}

// When is the same signing at another time of the tagger, and of gpg.
func (s Signing) When(at time.Time) Signing {
	s.At = at
	s.Env = append(append([]string{}, s.Env...), "TESTKIT_GPG_TIME="+gpgTime(at))
	return s
}

// SignTag makes a signed tag with git itself and returns the tag object's id.
func (r *Remote) SignTag(s Signing, name, rev, message string) string {
	r.t.Helper()
	at := s.At
	if at.IsZero() {
		at = time.Now()
	}
	args := []string{"--git-dir", r.Dir}
	for _, setting := range s.Config {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command("git", append(args, "tag", "-f", "-s", "-m", message, name, rev)...)
	cmd.Env = append(append(GitEnv(), fmt.Sprintf("GIT_COMMITTER_DATE=%d +0000", at.Unix())), s.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("signing tag %s: %v\n%s", name, err, out)
	}
	return r.Rev("refs/tags/" + name)
}

// AlterTag puts a tag in the place of a signed one of the same name that has its
// signature and another message.
func (r *Remote) AlterTag(name string) string {
	r.t.Helper()
	text := r.Git("cat-file", "tag", name) + "\n"
	head, body, _ := strings.Cut(text, "\n\n")
	id := r.Object("tag", head+"\n\nAltered: "+body)
	r.SetTag(name, id)
	return id
}

// GPG is a real gpg with a keyring of its own.
type GPG struct {
	t    testing.TB
	Home string
}

// NewGPG makes an empty keyring. It fails the test where gpg is missing.
func NewGPG(t testing.TB) *GPG {
	t.Helper()
	if testing.Short() {
		t.Skip("signatures need gpg, which short tests do without")
	}
	for _, program := range []string{"gpg", "gpgconf"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test needs %s: install the package gnupg", program)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // short: gpg's sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	g := &GPG{t: t, Home: home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	// As git runs it: at the time of day that a test wants.
	script := "#!/bin/sh\nexec gpg --batch --no-tty --pinentry-mode loopback --passphrase '' ${TESTKIT_GPG_TIME:+--faked-system-time \"$TESTKIT_GPG_TIME\"} \"$@\"\n"
	if err := os.WriteFile(g.program(), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *GPG) program() string { return filepath.Join(g.Home, "as-git-runs-it") }

func gpgTime(at time.Time) string { return at.UTC().Format("20060102T150405!") }

// Run runs gpg at a time, or now where it is zero, and returns what it prints.
func (g *GPG) Run(at time.Time, args ...string) string {
	g.t.Helper()
	return g.input(at, "", args...)
}

func (g *GPG) input(at time.Time, stdin string, args ...string) string {
	g.t.Helper()
	cmd := exec.Command(g.program(), append([]string{"--quiet", "--yes"}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.Home, "LC_ALL=C")
	if !at.IsZero() {
		cmd.Env = append(cmd.Env, "TESTKIT_GPG_TIME="+gpgTime(at))
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// Key makes a key for signing and returns its fingerprint. algo is gpg's name,
// such as ed25519 or rsa3072; expires is "never", or gpg's way to say when.
func (g *GPG) Key(at time.Time, user, algo, expires string) string {
	g.t.Helper()
	g.Run(at, "--quick-generate-key", user, algo, "sign", expires)
	fingerprint := ""
	for line := range strings.Lines(g.Run(time.Time{}, "--with-colons", "--list-keys", "="+user)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && fingerprint == "" {
			fingerprint = f[9]
		}
	}
	return fingerprint
}

// Subkey adds a subkey for signing and returns its fingerprint.
func (g *GPG) Subkey(at time.Time, key, algo, expires string) string {
	g.t.Helper()
	g.Run(at, "--quick-add-key", key, algo, "sign", expires)
	last := ""
	for line := range strings.Lines(g.Run(time.Time{}, "--with-colons", "--with-subkey-fingerprint", "--list-keys", key)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			last = f[9]
		}
	}
	return last
}

// Revoke revokes a key with the certificate that gpg made beside it.
func (g *GPG) Revoke(key string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.Home, "openpgp-revocs.d", key+".rev"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.input(time.Time{}, strings.ReplaceAll(string(text), ":-----BEGIN", "-----BEGIN"), "--import")
}

// RevokeSubkey revokes the only subkey of a key.
func (g *GPG) RevokeSubkey(key string) {
	g.t.Helper()
	cmd := exec.Command("gpg", "--homedir", g.Home, "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "",
		"--command-fd", "0", "--edit-key", key)
	cmd.Stdin = strings.NewReader("key 1\nrevkey\ny\n0\n\ny\nsave\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Fatalf("revoking a subkey: %v\n%s", err, out)
	}
}

// Export returns the public keys, armoured.
func (g *GPG) Export(keys ...string) string {
	g.t.Helper()
	return g.Run(time.Time{}, append([]string{"--armor", "--export"}, keys...)...)
}

// Signing signs with a key; an exclamation mark after a subkey's fingerprint
// makes gpg take that one.
func (g *GPG) Signing(key string) Signing {
	return Signing{Config: []string{"user.signingkey=" + key, "gpg.program=" + g.program()}, Env: []string{"GNUPGHOME=" + g.Home}}
}

// SSHKey is a key that ssh-keygen made.
type SSHKey struct {
	File        string // of the private key
	Public      string // type and key, as in the .pub file, without a comment
	Fingerprint string // SHA256:…
}

// NewSSHKey makes a key; kind is what follows ssh-keygen's -t, as in "rsa -b 2048".
// It fails the test where ssh-keygen is missing.
func NewSSHKey(t testing.TB, kind string) SSHKey {
	t.Helper()
	if testing.Short() {
		t.Skip("signatures need ssh-keygen, which short tests do without")
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Fatal("this test needs ssh-keygen: install the package openssh-client")
	}
	key := SSHKey{File: filepath.Join(t.TempDir(), "key")}
	run := func(args ...string) string {
		out, err := exec.Command("ssh-keygen", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run(append([]string{"-q", "-N", "", "-C", "", "-f", key.File, "-t"}, strings.Fields(kind)...)...)
	public, err := os.ReadFile(key.File + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key.Public = strings.TrimSpace(string(public))
	key.Fingerprint = strings.Fields(run("-l", "-f", key.File+".pub"))[1]
	return key
}

// Signing signs with the key.
func (k SSHKey) Signing() Signing {
	return Signing{Config: []string{"gpg.format=ssh", "user.signingkey=" + k.File}}
}
