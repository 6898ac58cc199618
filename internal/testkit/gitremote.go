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

// Remote is a real bare git repository with the default branch main. Its
// methods run git without the user's configuration and end the test on an
// error. Times advance by one minute per object, from a fixed start, so that
// equal calls make equal ids.
type Remote struct {
	t     testing.TB
	Dir   string // of the bare repository; works as a URL
	clock time.Time
}

// File is one path of a commit. Mode is git's: 100644 (the default), 100755,
// 120000 for a symlink, whose content is the target, or 160000 for a submodule,
// whose content is a commit id. Delete removes the path.
type File struct {
	Path, Content, Mode string
	Delete              bool
}

// NewRemote makes an empty bare repository below t.TempDir().
func NewRemote(t testing.TB) *Remote {
	t.Helper()
	r := &Remote{t: t, Dir: filepath.Join(t.TempDir(), "remote.git"),
		clock: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatalf("these tests need git: %v", err)
	}
	r.run(nil, "git", "init", "-q", "--bare", "-b", "main", r.Dir)
	return r
}

// GitEnv is an environment for running git by hand: fixed identity, no
// configuration of user or system.
func GitEnv() []string {
	return append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Test Author", "GIT_AUTHOR_EMAIL=author@example.org",
		"GIT_COMMITTER_NAME=Test Tagger", "GIT_COMMITTER_EMAIL=tagger@example.org",
		"GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "TZ=UTC")
}

// Git runs git in the bare repository and returns its trimmed output.
func (r *Remote) Git(args ...string) string {
	r.t.Helper()
	return r.GitInput("", args...)
}

// GitInput is Git with a standard input.
func (r *Remote) GitInput(stdin string, args ...string) string {
	r.t.Helper()
	return r.run(strings.NewReader(stdin), "git", append([]string{"--git-dir", r.Dir}, args...)...)
}

func (r *Remote) run(stdin *strings.Reader, name string, args ...string) string {
	r.t.Helper()
	r.clock = r.clock.Add(time.Minute)
	date := fmt.Sprintf("%d +0000", r.clock.Unix())
	cmd := exec.Command(name, args...)
	cmd.Env = append(GitEnv(), "GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// Commit adds or changes files on main and returns the commit's id.
func (r *Remote) Commit(files map[string]string) string {
	r.t.Helper()
	var list []File
	for path, content := range files {
		list = append(list, File{Path: path, Content: content})
	}
	return r.CommitFiles("main", "", list...)
}

// CommitFiles adds, changes or deletes files on a branch, which is made at
// from, or without history where from is empty and the branch is new. It
// returns the commit's id.
func (r *Remote) CommitFiles(branch, from string, files ...File) string {
	r.t.Helper()
	ref := "refs/heads/" + branch
	if from == "" {
		from = r.tryRev(ref)
	}
	r.clock = r.clock.Add(time.Minute)
	var in strings.Builder
	fmt.Fprintf(&in, "commit %s\ncommitter Test Author <author@example.org> %d +0000\n", ref, r.clock.Unix())
	data(&in, "change")
	if from != "" {
		fmt.Fprintf(&in, "from %s\n", r.Rev(from))
	}
	for _, f := range files {
		mode := f.Mode
		switch {
		case f.Delete:
			fmt.Fprintf(&in, "D %s\n", quotePath(f.Path))
		case mode == "160000":
			fmt.Fprintf(&in, "M 160000 %s %s\n", f.Content, quotePath(f.Path))
		default:
			if mode == "" {
				mode = "100644"
			}
			fmt.Fprintf(&in, "M %s inline %s\n", mode, quotePath(f.Path))
			data(&in, f.Content)
		}
	}
	r.GitInput(in.String(), "fast-import", "--quiet", "--force")
	return r.Rev(ref)
}

func data(b *strings.Builder, content string) {
	fmt.Fprintf(b, "data %d\n%s\n", len(content), content)
}

func quotePath(p string) string { return fmt.Sprintf("%q", p) }

// Merge makes a commit on main with the given second parent and main's tree.
func (r *Remote) Merge(other string) string {
	r.t.Helper()
	id := r.Git("commit-tree", "main^{tree}", "-p", "main", "-p", other, "-m", "merge")
	r.SetBranch("main", id)
	return id
}

// Object writes a raw object of a kind (blob, tree, commit, tag) that git
// itself would not make, and returns its id.
func (r *Remote) Object(kind, content string) string {
	r.t.Helper()
	return r.GitInput(content, "hash-object", "-w", "-t", kind, "--literally", "--stdin")
}

// SetBranch points a branch at a commit, whatever was there.
func (r *Remote) SetBranch(branch, rev string) {
	r.t.Helper()
	r.Git("update-ref", "refs/heads/"+branch, rev)
}

// SetTag points a tag at an object, whatever was there: a lightweight tag, or a
// moved one.
func (r *Remote) SetTag(name, rev string) {
	r.t.Helper()
	r.Git("update-ref", "refs/tags/"+name, rev)
}

// Tag makes an annotated tag and returns the tag object's id.
func (r *Remote) Tag(name, rev, message string) string {
	r.t.Helper()
	r.Git("tag", "-a", "-m", message, name, rev)
	return r.Rev("refs/tags/" + name)
}

// MoveTag makes the annotated tag anew at another commit.
func (r *Remote) MoveTag(name, rev string) string {
	r.t.Helper()
	r.Git("tag", "-f", "-a", "-m", "moved", name, rev)
	return r.Rev("refs/tags/" + name)
}

// DeleteTag removes a tag.
func (r *Remote) DeleteTag(name string) {
	r.t.Helper()
	r.Git("tag", "-d", name)
}

// Rev returns the id that a revision names.
func (r *Remote) Rev(rev string) string {
	r.t.Helper()
	return r.Git("rev-parse", "--verify", rev)
}

func (r *Remote) tryRev(rev string) string {
	r.t.Helper()
	return r.Git("for-each-ref", "--format=%(objectname)", rev)
}
