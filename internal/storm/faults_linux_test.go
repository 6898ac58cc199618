package storm

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
)

// A fault that does nothing would let every storm pass: here each is held to do
// what its name says.

// TestTheRemoteFails asks a real git for the tags, in every mood of the remote.
func TestTheRemoteFails(t *testing.T) {
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"main.tf": "# one\n"})
	remote.Tag("dev_us-east-1/t0/1.1", "main", "one")
	lying := newLyingRemote(t, remote)
	for _, mood := range []string{remoteWell, remoteRefuses, remoteTruncates, remoteHangs, remoteWell} {
		lying.set(mood)
		cmd := exec.Command("git", "ls-remote", "--tags", lying.url)
		cmd.Env = testkit.GitEnv()
		out, err := cmd.CombinedOutput()
		if (err == nil) != (mood == remoteWell) {
			t.Errorf("a remote that %q: %v\n%s", mood, err, out)
		}
	}
}

// TestTheProxyCutsAndStalls speaks to an echo through the proxy in every mode.
func TestTheProxyCutsAndStalls(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	echo, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	p := testkit.NewProxy(t, socket)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	says := func(c net.Conn, within time.Duration) error {
		_ = c.SetDeadline(time.Now().Add(within))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	c := dial()
	if err := says(c, time.Minute); err != nil {
		t.Fatalf("through: %v", err)
	}
	p.Set(testkit.Stalls)
	if err := says(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stalled: %v", err)
	}
	p.Set(testkit.Passes)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("what was held back did not come: %v", err)
	}
	p.Set(testkit.Cuts)
	if err := says(c, time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %v", err)
	}
	if err := says(dial(), time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection while cut: %v", err)
	}
	p.Set(testkit.Passes)
	if err := says(dial(), time.Minute); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

// TestTheDiskFills fills a small disk, where one may be had.
func TestTheDiskFills(t *testing.T) {
	dir := t.TempDir()
	if err := smallDisk(t, dir); err != nil {
		t.Skip(err)
	}
	fillDisk(dir)
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 4096), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing to the full disk: %v", err)
	}
	emptyDisk(dir)
	if err := os.WriteFile(other, make([]byte, 4096), 0o600); err != nil {
		t.Errorf("after it was emptied: %v", err)
	}
}

// TestTheClockIsReadFromTheName builds a program with the skewed package time.
func TestTheClockIsReadFromTheName(t *testing.T) {
	if testing.Short() || !opt.clocks {
		t.Skip("builds package time anew, which takes minutes: it runs with -storm.clocks")
	}
	dir := t.TempDir()
	main := filepath.Join(dir, "main.go")
	if err := os.WriteFile(main, []byte("package main\n\nimport (\n\t\"os\"\n\t\"time\"\n)\n\nfunc main() { os.Stdout.WriteString(time.Now().Format(time.RFC3339)) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{0, 150 * time.Second, -210 * time.Second} {
		program := filepath.Join(dir, clockNames(3, true)[i])
		args := append([]string{"build", "-o", program}, clockOverlay(t)...)
		if out, err := exec.Command("go", append(args, main)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := exec.Command(program).Output()
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, string(out))
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Until(at) - want; off.Abs() > 30*time.Second {
			t.Errorf("%s is %s off", program, off)
		}
	}
}
