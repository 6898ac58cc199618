package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// sshDialer runs git-upload-pack on an SSH server. Unknown and changed host
// keys are refused.
type sshDialer struct {
	addr    string // host:port
	user    string
	path    string
	keyFile string
	signer  ssh.Signer
	hosts   []string // known_hosts files, read again for every connection
}

func newSSHDialer(cfg Config, a address) (*sshDialer, error) {
	d := &sshDialer{user: a.user, path: a.path, keyFile: cfg.SSHKeyFile, addr: a.host}
	if d.user == "" {
		d.user = "git"
	}
	if _, _, err := net.SplitHostPort(a.host); err != nil {
		d.addr = net.JoinHostPort(strings.Trim(a.host, "[]"), "22")
	}
	if d.keyFile == "" {
		return nil, errors.New("an ssh url needs a key file: set the repository's ssh key")
	}
	pem, err := os.ReadFile(d.keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the ssh key: %w", err)
	}
	d.signer, err = ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("ssh key %s is protected by a passphrase: use a deploy key without one, readable by this user alone", d.keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("ssh key %s: %w", d.keyFile, err)
	}
	d.hosts, err = knownHostsFiles(cfg.KnownHostsFile)
	return d, err
}

// knownHostsFiles are the configured file, which must exist, or those of
// OpenSSH's defaults that do.
func knownHostsFiles(configured string) ([]string, error) {
	if configured != "" {
		if _, err := os.Stat(configured); err != nil {
			return nil, fmt.Errorf("known hosts file: %w", err)
		}
		return []string{configured}, nil
	}
	var found []string
	home, _ := os.UserHomeDir()
	for _, f := range []string{filepath.Join(home, ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"} {
		if _, err := os.Stat(f); err == nil {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no known hosts file: set one; ssh-keyscan writes its lines")
	}
	return found, nil
}

// dial connects, authenticates and starts git-upload-pack. Cancelling ctx
// closes the connection and with it every later read.
func (d *sshDialer) dial(ctx context.Context) (conn, error) {
	db, err := knownhosts.NewDB(d.hosts...)
	if err != nil {
		return nil, &trouble{what: "the known hosts cannot be read", cause: err, next: "repair the file"}
	}
	tcp, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, &trouble{what: "the server cannot be reached", cause: err, next: "check the url and the network"}
	}
	unhook := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	client, err := d.handshake(tcp, db)
	if err != nil {
		unhook()
		_ = tcp.Close()
		return nil, err
	}
	p, err := d.start(client)
	if err != nil {
		unhook()
		_ = client.Close()
		return nil, err
	}
	stop := p.stop
	p.stop = func() { unhook(); stop() }
	return p, nil
}

func (d *sshDialer) handshake(tcp net.Conn, db *knownhosts.HostKeyDB) (*ssh.Client, error) {
	var seen ssh.PublicKey
	check := db.HostKeyCallback()
	_ = tcp.SetDeadline(time.Now().Add(30 * time.Second))
	c, chans, reqs, err := ssh.NewClientConn(tcp, d.addr, &ssh.ClientConfig{
		User:              d.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(d.signer)},
		HostKeyAlgorithms: db.HostKeyAlgorithms(d.addr),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			seen = key
			return check(host, remote, key)
		},
	})
	if err != nil {
		return nil, d.handshakeTrouble(err, seen)
	}
	_ = tcp.SetDeadline(time.Time{})
	return ssh.NewClient(c, chans, reqs), nil
}

func (d *sshDialer) handshakeTrouble(err error, seen ssh.PublicKey) error {
	host, port, _ := net.SplitHostPort(d.addr)
	fingerprint := ""
	if seen != nil {
		fingerprint = " (" + seen.Type() + " " + ssh.FingerprintSHA256(seen) + ")"
	}
	switch {
	case knownhosts.IsHostUnknown(err):
		return &trouble{what: "the host key of " + d.addr + fingerprint + " is unknown", cause: err,
			next: fmt.Sprintf("compare the fingerprint with the server's, then add it: ssh-keyscan -p %s %s >> %s", port, host, d.hosts[0])}
	case knownhosts.IsHostKeyChanged(err):
		return &trouble{what: "the host key of " + d.addr + fingerprint + " is not the known one: someone may be listening in", cause: err,
			next: "only if the server's key was really replaced, remove its old line from " + d.hosts[0] + " and add the new one"}
	case strings.Contains(err.Error(), "unable to authenticate"):
		return &trouble{what: "the server refuses the key " + ssh.FingerprintSHA256(d.signer.PublicKey()) + " for user " + d.user, cause: err,
			next: "add the public half of " + d.keyFile + " to the repository as a deploy key with read access, and check the url's user"}
	}
	return &trouble{what: "no ssh connection", cause: err, next: "check that host and port are an ssh server"}
}

func (d *sshDialer) start(client *ssh.Client) (*pipe, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	p := &pipe{stderr: &tail{}}
	session.Stderr = p.stderr
	wait := sync.OnceValue(session.Wait)
	p.wait = wait
	p.stop = func() { _ = client.Close(); _ = wait() }
	if p.in, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	var out io.Reader
	if out, err = session.StdoutPipe(); err != nil {
		return nil, err
	}
	p.out = out
	// A server that does not accept the variable answers in protocol 0.
	_ = session.Setenv("GIT_PROTOCOL", "version=2")
	return p, session.Start("git-upload-pack " + shellQuote(d.path))
}

// shellQuote is git's sq_quote: the remote shell sees one word.
func shellQuote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}
