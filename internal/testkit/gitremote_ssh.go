package testkit

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// SSHRemote serves the machine's git repositories with a real, unprivileged
// sshd on loopback.
type SSHRemote struct {
	URL            string // of the Remote
	Addr           string // host:port
	KeyFile        string // a private key that the server lets in
	StrangerKey    string // one that it does not
	KnownHostsFile string // with the server's key
}

// ServeSSH starts sshd; acceptProtocol tells whether it lets clients ask for
// protocol version 2. Where sshd is missing the test fails and names the
// package; with -short it is skipped.
func (r *Remote) ServeSSH(acceptProtocol bool) *SSHRemote {
	r.t.Helper()
	if testing.Short() {
		r.t.Skip("needs sshd")
	}
	sshd := findSSHD(r.t)
	dir := r.t.TempDir()
	s := &SSHRemote{KeyFile: filepath.Join(dir, "client"), StrangerKey: filepath.Join(dir, "stranger"),
		KnownHostsFile: filepath.Join(dir, "known_hosts")}
	for _, key := range []string{"host", "client", "stranger"} {
		r.run(nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", filepath.Join(dir, key))
	}
	copyFile(r.t, s.KeyFile+".pub", filepath.Join(dir, "authorized"))
	port := freePort(r.t)
	accept := "LANG"
	if acceptProtocol {
		accept = "GIT_PROTOCOL"
	}
	conf := filepath.Join(dir, "sshd_config")
	text := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s\nAuthorizedKeysFile %s\nAcceptEnv %s\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\nLogLevel INFO\n",
		port, filepath.Join(dir, "host"), filepath.Join(dir, "authorized"), accept)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	startSSHD(r.t, sshd, conf)
	me, err := user.Current()
	if err != nil {
		r.t.Fatal(err)
	}
	s.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	s.URL = "ssh://" + me.Username + "@" + s.Addr + r.Dir
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	line := fmt.Sprintf("[127.0.0.1]:%d %s", port, host)
	if err := os.WriteFile(s.KnownHostsFile, []byte(line), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func findSSHD(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"/usr/sbin/sshd", "sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			// As root sshd wants its privilege separation folder.
			_ = os.MkdirAll("/run/sshd", 0o755)
			return path
		}
	}
	t.Fatal("sshd is missing: install the package openssh-server")
	return ""
}

// startSSHD returns once sshd says on stderr that it listens.
func startSSHD(t testing.TB, sshd, conf string) {
	t.Helper()
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	cmd.Env = GitEnv()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var read sync.WaitGroup
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		read.Wait()
		_ = cmd.Wait()
	})
	var said bytes.Buffer
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Server listening") {
			read.Go(func() {
				for lines.Scan() {
				}
			})
			return
		}
	}
	t.Fatalf("sshd did not start:\n%s", said.String())
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
