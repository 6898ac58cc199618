package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// dialer opens conversations with one remote's git-upload-pack.
type dialer interface {
	dial(ctx context.Context) (conn, error)
}

// conn is one conversation. What it reads stays valid until the next call.
type conn interface {
	// greeting is the server's first message.
	greeting() io.Reader
	// ask sends one request and returns where the answer is read.
	ask(ctx context.Context, request []byte) (io.Reader, error)
	// said tells why the server hung up: what it wrote to stderr, as trouble.
	said(cause error) error
	// stateless: a new request starts from nothing, as over HTTP.
	stateless() bool
	close()
}

func newDialer(cfg Config, a address) (dialer, error) {
	switch a.scheme {
	case "ssh":
		return newSSHDialer(cfg, a)
	case "file":
		return fileDialer{path: a.path}, nil
	default:
		return newHTTPDialer(cfg, a)
	}
}

// pipe is a conversation with a git-upload-pack whose standard streams we hold.
type pipe struct {
	in     io.WriteCloser
	out    io.Reader
	stderr *tail
	wait   func() error // until the other side has ended and stderr is complete
	stop   func()       // ends it at once; may be called after wait
}

func (p *pipe) greeting() io.Reader { return p.out }
func (p *pipe) stateless() bool     { return false }

func (p *pipe) ask(_ context.Context, request []byte) (io.Reader, error) {
	_, err := p.in.Write(request)
	return p.out, err
}

func (p *pipe) said(cause error) error {
	_ = p.in.Close()
	ended := time.AfterFunc(5*time.Second, p.stop)
	defer ended.Stop()
	if err := p.wait(); err != nil && cause == nil {
		cause = err
	}
	return remoteSaid(p.stderr.String(), cause)
}

// close says goodbye with a flush, so that the server's log shows no broken
// connection.
func (p *pipe) close() {
	_, _ = io.WriteString(p.in, flushPkt)
	_ = p.in.Close()
	p.stop()
}

// tail keeps the first bytes of what a server writes to stderr.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[:min(len(p), most-len(t.text))]...)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// fileDialer serves a repository on this machine by running git upload-pack:
// it alone knows every format that a local repository may have.
type fileDialer struct{ path string }

func (d fileDialer) dial(ctx context.Context) (conn, error) {
	if _, err := os.Stat(d.path); err != nil {
		return nil, &trouble{what: "no repository there", cause: err, next: "check the url"}
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "git", "upload-pack", d.path)
	cmd.Env = uploadPackEnv(os.Environ())
	cmd.WaitDelay = 5 * time.Second
	p := &pipe{stderr: &tail{}}
	cmd.Stderr = p.stderr
	wait := sync.OnceValue(cmd.Wait)
	p.wait = wait
	p.stop = func() { cancel(); _ = wait() }
	var err error
	if p.in, err = cmd.StdinPipe(); err == nil {
		var out io.Reader
		out, err = cmd.StdoutPipe()
		p.out = out
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		if errors.Is(err, exec.ErrNotFound) {
			return nil, &trouble{what: "a local repository needs git", cause: err,
				next: "install git, or serve the repository over https or ssh"}
		}
		return nil, fmt.Errorf("starting git upload-pack: %w", err)
	}
	return p, nil
}

// uploadPackEnv keeps the user's environment (HOME holds safe.directory) less
// every GIT_ variable that would point git elsewhere.
func uploadPackEnv(environ []string) []string {
	env := []string{"GIT_PROTOCOL=version=2", "LC_ALL=C"}
	for _, kv := range environ {
		if strings.HasPrefix(kv, "GIT_CONFIG") || !strings.HasPrefix(kv, "GIT_") && !strings.HasPrefix(kv, "LC_ALL=") {
			env = append(env, kv)
		}
	}
	return env
}
