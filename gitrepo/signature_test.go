package gitrepo_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// signing is a remote whose tags are signed by real programs.
type signing struct {
	t      *testing.T
	remote *testkit.Remote
	repo   *gitrepo.Repository
	dir    string
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"a": "1"})
	return &signing{t: t, remote: remote, repo: local(t, remote), dir: t.TempDir()}
}

// file writes a file of keys.
func (s *signing) file(name string, text ...string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(text, "")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *signing) load(openpgp []string, allowed string) *gitrepo.Signers {
	s.t.Helper()
	signers, problems := gitrepo.LoadSigners(openpgp, allowed)
	if len(problems) > 0 {
		s.t.Fatal(problems)
	}
	return signers
}

// verify fetches a tag and verifies it, at a time or now.
func (s *signing) verify(signers *gitrepo.Signers, tag string, now time.Time) (release.Signer, error) {
	s.t.Helper()
	signed, err := s.repo.SignedTag(s.t.Context(), fetchAll(s.t, s.repo)[tag])
	if err != nil {
		s.t.Fatal(err)
	}
	if now.IsZero() {
		now = time.Now()
	}
	return signers.Verify(signed, now)
}

func (s *signing) accepted(signers *gitrepo.Signers, tag string, want release.Signer, now ...time.Time) {
	s.t.Helper()
	if got, err := s.verify(signers, tag, append(now, time.Time{})[0]); err != nil || got != want {
		s.t.Errorf("%s: %+v, %v; want %+v", tag, got, err, want)
	}
}

func (s *signing) refused(signers *gitrepo.Signers, tag string, want release.SignatureFault, key string, now ...time.Time) string {
	s.t.Helper()
	got, err := s.verify(signers, tag, append(now, time.Time{})[0])
	var bad *release.SignatureError
	if !errors.As(err, &bad) || !errors.Is(err, release.ErrRefused) || bad.Fault != want || bad.Key != key || got != (release.Signer{}) {
		s.t.Errorf("%s: %+v, %v; want %s by %q", tag, got, err, want, key)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

const ann, ben = "Ann <ann@example.org>", "Ben <ben@example.org>"

func TestOpenPGPSignatures(t *testing.T) {
	s, g, none := newSigning(t), testkit.NewGPG(t), time.Time{}
	annKey, benKey, stranger := g.Key(none, ann, "ed25519", "never"), g.Key(none, ben, "rsa3072", "never"), g.Key(none, "X <x@example.org>", "ed25519", "never")
	p256, weak := g.Key(none, "Eve <e@example.org>", "nistp256", "never"), g.Key(none, "Old <o@example.org>", "rsa1024", "never")
	binary := g.Run(none, "--export", benKey)
	signers := s.load([]string{s.file("ann.asc", "A comment.\n", g.Export(annKey), "\nAnother.\n", g.Export(p256, weak)), s.file("ben.gpg", binary)}, "")
	for tag, key := range map[string]string{"ann": annKey, "ben": benKey, "stranger": stranger, "p256": p256, "weak": weak} {
		s.remote.SignTag(g.Signing(key), tag, "main", "we quote\n-----BEGIN PGP SIGNATURE-----\nin the text")
	}
	s.accepted(signers, "ann", release.Signer{Name: ann, Key: annKey, Kind: "OpenPGP"})
	s.accepted(signers, "ben", release.Signer{Name: ben, Key: benKey, Kind: "OpenPGP"})
	s.accepted(signers, "p256", release.Signer{Name: "Eve <e@example.org>", Key: p256, Kind: "OpenPGP"})
	if said := s.refused(signers, "stranger", release.SignatureUnknownKey, stranger); !strings.Contains(said, stranger) {
		t.Error(said)
	}
	s.refused(signers, "weak", release.SignatureUnsupported, weak)
	s.remote.SignTag(testkit.Signing{Config: append(g.Signing(annKey).Config, "gpg.program="+s.script("gpg --digest-algo SHA1")), Env: g.Signing(annKey).Env}, "sha1", "main", "m")
	s.refused(signers, "sha1", release.SignatureUnsupported, annKey)
	s.remote.Tag("unsigned", "main", "m")
	s.remote.SetTag("light", "main")
	s.refused(signers, "unsigned", release.Unsigned, "")
	s.refused(signers, "light", release.Unsigned, "")
	s.remote.AlterTag("ann")
	s.refused(signers, "ann", release.SignatureAltered, annKey)

	// From another file, or of another day, a key that is revoked is revoked.
	old := s.file("old.asc", g.Export(benKey))
	g.Revoke(benKey)
	revoked := s.file("new.asc", g.Export(benKey))
	for _, files := range [][]string{{revoked}, {old, revoked}, {revoked, old}} {
		s.refused(s.load(files, ""), "ben", release.SignatureRevoked, benKey)
	}
	s.accepted(s.load([]string{old}, ""), "ben", release.Signer{Name: ben, Key: benKey, Kind: "OpenPGP"})
}

// script makes a program for git to sign with.
func (s *signing) script(command string) string {
	s.t.Helper()
	path := s.file("sign", "#!/bin/sh\nexec "+command+" \"$@\"\n")
	if err := os.Chmod(path, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestOpenPGPKeysHaveTheirTimes(t *testing.T) {
	s, g := newSigning(t), testkit.NewGPG(t)
	day := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	on := func(n int) time.Time { return day.AddDate(0, 0, n) }
	annKey := g.Key(day, ann, "ed25519", "10d")
	sub := g.Subkey(on(2), annKey, "ed25519", "3d")
	s.remote.SignTag(g.Signing(annKey+"!").When(on(1)), "primary", "main", "m")
	s.remote.SignTag(g.Signing(sub+"!").When(on(3)), "subkey", "main", "m")
	short := s.load([]string{s.file("short.asc", g.Export(annKey))}, "")
	asAnn, asSub := release.Signer{Name: ann, Key: annKey, Kind: "OpenPGP"}, release.Signer{Name: ann, Key: sub, Kind: "OpenPGP"}
	s.accepted(short, "primary", asAnn, on(9))
	s.refused(short, "primary", release.SignatureExpired, annKey, on(11))
	s.refused(short, "primary", release.SignatureNotYetValid, annKey, on(0)) // the signature is of tomorrow
	s.accepted(short, "subkey", asSub, on(4))
	s.refused(short, "subkey", release.SignatureExpired, sub, on(6))
	s.refused(short, "subkey", release.SignatureExpired, sub, on(11))

	// A key that was prolonged counts again; one that had not been made does not.
	g.Run(on(4), "--quick-set-expire", annKey, "1y")
	longer := s.load([]string{s.file("longer.asc", g.Export(annKey))}, "")
	s.accepted(longer, "primary", asAnn, on(11))
	s.refused(longer, "subkey", release.SignatureExpired, sub, on(11))
	early := testkit.Signing{Config: append(g.Signing(annKey+"!").Config, "gpg.program="+s.script(g.Home+"/as-git-runs-it --ignore-time-conflict --ignore-valid-from")), Env: g.Signing(annKey).Env}
	s.remote.SignTag(early.When(on(-5)), "early", "main", "m")
	s.refused(longer, "early", release.SignatureNotYetValid, annKey, on(5))

	g.RevokeSubkey(annKey)
	revoked := s.load([]string{s.file("revoked.asc", g.Export(annKey))}, "")
	s.refused(revoked, "subkey", release.SignatureRevoked, sub, on(4))
	s.accepted(revoked, "primary", asAnn, on(4))
}

func TestSSHSignatures(t *testing.T) {
	s := newSigning(t)
	ed, ec, rsa, stranger := testkit.NewSSHKey(t, "ed25519"), testkit.NewSSHKey(t, "ecdsa -b 384"), testkit.NewSSHKey(t, "rsa -b 2048"), testkit.NewSSHKey(t, "ed25519")
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for tag, key := range map[string]testkit.SSHKey{"ed": ed, "ec": ec, "rsa": rsa, "stranger": stranger} {
		s.remote.SignTag(key.Signing().When(day), tag, "main", "m") // by tagger@example.org
	}
	lines := func(text ...string) *gitrepo.Signers {
		t.Helper()
		return s.load(nil, s.file("allowed", strings.Join(text, "\n")))
	}
	all := lines("# ours", "", "ann@example.org "+ed.Public+" a comment", "  *@example.org,!x@* namespaces=\"git,file\" "+ec.Public,
		`"jo,tagger@example.org" valid-after="20260101Z",valid-before="20260401000000Z" `+rsa.Public)
	s.accepted(all, "ed", release.Signer{Name: "ann@example.org", Key: ed.Fingerprint, Kind: "SSH"}, day)
	s.accepted(all, "ec", release.Signer{Name: "tagger@example.org", Key: ec.Fingerprint, Kind: "SSH"}, day)
	s.accepted(all, "rsa", release.Signer{Name: "tagger@example.org", Key: rsa.Fingerprint, Kind: "SSH"}, day)
	s.refused(all, "rsa", release.SignatureExpired, rsa.Fingerprint, day.AddDate(0, 2, 0))
	s.refused(all, "rsa", release.SignatureNotYetValid, rsa.Fingerprint, day.AddDate(0, 0, -1)) // the tag is of tomorrow
	s.refused(all, "stranger", release.SignatureUnknownKey, stranger.Fingerprint, day)
	for what, tt := range map[string]struct {
		line string
		want release.SignatureFault
		git  bool // git accepts it: it does not ask who the tagger is
	}{
		"expired when it signed": {`ann valid-before="20260201Z" `, release.SignatureExpired, false},
		"not yet valid":          {`ann valid-after="20260302Z" `, release.SignatureNotYetValid, false},
		"for files alone":        {`ann namespaces="file" `, release.SignatureWrongUse, false},
		"for all but git":        {`ann namespaces="*,!git" `, release.SignatureWrongUse, false},
		"of others":              {`*@example.com `, release.SignatureWrongSigner, true},
		"excluded":               {`*,!tagger@* `, release.SignatureWrongSigner, true},
		"of an hour":             {`ann valid-after="202602282330Z",valid-before="20260301003000Z" `, "", true},
		"for git too":            {`"ann,ben" namespaces="f*,g?t" `, "", true},
		"for whoever tags":       {`tagger@* `, "", true},
	} {
		signers := lines(tt.line + ed.Public)
		if tt.want == "" {
			if _, err := s.verify(signers, "ed", day); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		} else if said := s.refused(signers, "ed", tt.want, ed.Fingerprint, day); !strings.Contains(said, ed.Fingerprint) {
			t.Errorf("%s: %s", what, said)
		}
		if got := s.gitAccepts("ed"); got != tt.git {
			t.Errorf("%s: git accepts it: %v", what, got)
		}
	}
	// Of a key on two lines, the one that allows it counts.
	s.accepted(lines(`ann valid-before="20260201Z" `+ed.Public, `ann valid-after="20260201Z" `+ed.Public), "ed",
		release.Signer{Name: "ann", Key: ed.Fingerprint, Kind: "SSH"}, day)
	s.remote.AlterTag("ed")
	s.refused(all, "ed", release.SignatureAltered, ed.Fingerprint, day)
	// git asks for its own namespace; another program's signature is no tag's.
	forFiles := testkit.Signing{Config: append(ec.Signing().Config, "gpg.ssh.program="+s.script(`sh -c 'exec ssh-keygen -Y sign -n file -f "$6" "$7"' sh`))}
	s.remote.SignTag(forFiles.When(day), "ec", "main", "m")
	s.refused(all, "ec", release.SignatureWrongUse, ec.Fingerprint, day)
}

// gitAccepts asks git and ssh-keygen themselves, with the file "allowed".
func (s *signing) gitAccepts(tag string) bool {
	cmd := exec.Command("git", "--git-dir", s.remote.Dir, "-c", "gpg.ssh.allowedSignersFile="+filepath.Join(s.dir, "allowed"), "verify-tag", tag)
	cmd.Env = testkit.GitEnv()
	return cmd.Run() == nil
}

func TestDamagedAndForeignSignatures(t *testing.T) {
	s, g := newSigning(t), testkit.NewGPG(t)
	annKey, ssh := g.Key(time.Time{}, ann, "ed25519", "never"), testkit.NewSSHKey(t, "ed25519")
	signers := s.load([]string{s.file("ann.asc", g.Export(annKey))}, s.file("allowed", "ann "+ssh.Public))
	s.remote.SignTag(g.Signing(annKey), "pgp", "main", "m")
	s.remote.SignTag(ssh.Signing(), "ssh", "main", "m")
	make := func(name, from string, change func(string) string) {
		text := s.remote.Git("cat-file", "tag", from) + "\n"
		s.remote.SetTag(name, s.remote.Object("tag", change(strings.Replace(text, "tag "+from, "tag "+name, 1))))
	}
	cut := func(text string) string {
		return text[:len(text)-60] + "\n" + text[strings.LastIndex(text, "-----END"):]
	}
	for tag, tt := range map[string]struct {
		from   string
		change func(string) string
		want   release.SignatureFault
		key    string
	}{
		"pgp-renamed":  {"pgp", func(s string) string { return s }, release.SignatureAltered, annKey},
		"ssh-renamed":  {"ssh", func(s string) string { return s }, release.SignatureAltered, ssh.Fingerprint},
		"pgp-after":    {"pgp", func(s string) string { return s + "and more\n" }, release.SignatureAltered, ""},
		"ssh-after":    {"ssh", func(s string) string { return s + "and more\n" }, release.SignatureAltered, ""},
		"pgp-cut":      {"pgp", cut, release.SignatureAltered, ""},
		"ssh-cut":      {"ssh", cut, release.SignatureAltered, ""},
		"pgp-open":     {"pgp", func(s string) string { return s[:strings.Index(s, "-----END")] }, release.SignatureAltered, ""},
		"x509":         {"pgp", func(s string) string { return strings.ReplaceAll(s, "PGP SIGNATURE", "SIGNED MESSAGE") }, release.SignatureUnsupported, ""},
		"pgp-message":  {"pgp", func(s string) string { return strings.ReplaceAll(s, "PGP SIGNATURE", "PGP MESSAGE") }, release.SignatureUnsupported, ""},
		"pgp-in-ssh":   {"pgp", func(s string) string { return strings.ReplaceAll(s, "PGP SIGNATURE", "SSH SIGNATURE") }, release.SignatureAltered, ""},
		"pgp-overlong": {"pgp", func(s string) string { return s + strings.Repeat("\n", 70<<10) }, release.SignatureUnsupported, ""},
		"gpgsig":       {"pgp", func(s string) string { return strings.Replace(s, "\ntagger ", "\ngpgsig-sha256 x\ntagger ", 1) }, release.SignatureAltered, annKey},
	} {
		make(tag, tt.from, tt.change)
		s.refused(signers, tag, tt.want, tt.key)
	}
}

func TestKeyFilesSayWhatIsWrong(t *testing.T) {
	s, g := newSigning(t), testkit.NewGPG(t)
	key := g.Key(time.Time{}, ann, "ed25519", "never")
	good, ssh := g.Export(key), testkit.NewSSHKey(t, "ed25519").Public
	private := g.Run(time.Time{}, "--armor", "--export-secret-keys", key)
	revocation, err := os.ReadFile(filepath.Join(g.Home, "openpgp-revocs.d", key+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(good, "\n")
	for name, tt := range map[string]struct {
		text string
		line int
		says string
	}{
		"empty":      {"", 0, "no key"},
		"text":       {"these are no keys\n", 0, "cannot be read"},
		"private":    {good + private, lines + 1, "private key"},
		"revocation": {good + "\n" + strings.ReplaceAll(string(revocation), ":-----BEGIN", "-----BEGIN"), 0, "revocation certificate"},
		"cut":        {"# ann\n" + good[:len(good)/2], 2, "cut short"},
		"message":    {strings.ReplaceAll(good, "PUBLIC KEY BLOCK", "MESSAGE"), 1, "no public key"},
		"binary cut": {g.Run(time.Time{}, "--export", key)[:100], 0, "cut short"},
	} {
		_, problems := gitrepo.LoadSigners([]string{s.file(name, tt.text)}, "")
		if len(problems) != 1 || tt.line != 0 && problems[0].Line != tt.line || !strings.Contains(problems[0].String(), tt.says) || problems[0].File != filepath.Join(s.dir, name) {
			t.Errorf("%s: %v", name, problems)
		}
	}
	_, problems := gitrepo.LoadSigners([]string{filepath.Join(s.dir, "none")}, filepath.Join(s.dir, "nothing"))
	if len(problems) != 2 || !strings.Contains(problems[0].String(), "no such file") {
		t.Error(problems)
	}
	short := testkit.NewSSHKey(t, "rsa -b 1024").Public
	text := []string{"# fine", "ann " + ssh, "ann", "ann nonsense", "ann cert-authority " + ssh, "ann touch=\"no\" " + ssh, "ann namespaces=git " + ssh,
		`ann valid-after="2026" ` + ssh, `ann valid-after="20260102Z",valid-before="20260101Z" ` + ssh, `"ann ` + ssh, "ann,,ben " + ssh, "ann " + short,
		`ann namespaces="git",namespaces="git" ` + ssh}
	_, problems = gitrepo.LoadSigners(nil, s.file("allowed", strings.Join(text, "\n")))
	says := []string{"no key", "no key", "cert-authority", "no option", "in quotes", "no time", "never valid", "quotes", "empty", "2048", "twice"}
	for i, want := range says {
		if i >= len(problems) || problems[i].Line != i+3 || !strings.Contains(problems[i].Text, want) {
			t.Fatalf("line %d does not say %q: %v", i+3, want, problems)
		}
	}
	if len(problems) != len(says) {
		t.Error(problems)
	}
}
