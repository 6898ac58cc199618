package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// dynaliteTimeout bounds the start of one DynamoDB; a healthy one takes a
// fraction of a second.
const dynaliteTimeout = time.Minute

// dynaliteScript starts an empty DynamoDB for each line of standard input, which
// names an account and a Region, and prints its port. It ends with its standard
// input, and so with the test binary, however that ends.
const dynaliteScript = `
const dynalite = require('dynalite')
const lines = require('node:readline').createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const [account, region] = line.split(' ')
  process.env.AWS_ACCOUNT_ID = account
  process.env.AWS_REGION = region
  const server = dynalite({ createTableMs: 0, updateTableMs: 0, deleteTableMs: 0 })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
})
lines.on('close', () => process.exit(0))
`

// theDynalite starts the one node process of this test binary on the first
// call; every database in it is empty and somebody's own.
var theDynalite = sync.OnceValues(startDynalite)

// dynaliteProcess is a running node.
type dynaliteProcess struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ports  chan string // closed when the process ends
	broken error
}

// startDynalite starts node with dynalite from .tools/dynalite.
func startDynalite() (*dynaliteProcess, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := findDynalite(root)
	if err != nil {
		return nil, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("node is not on PATH: install the package nodejs, or leave these tests out with make test-short")
	}
	p := &dynaliteProcess{cmd: exec.Command(node, "-e", dynaliteScript), ports: make(chan string)}
	p.cmd.Dir = dir
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting node: %w", err)
	}
	go func() {
		defer close(p.ports)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.ports <- lines.Text()
		}
	}()
	return p, nil
}

// findDynalite returns the folder in which node finds dynalite.
func findDynalite(root string) (string, error) {
	dir := filepath.Join(root, ".tools", "dynalite")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "dynalite", "index.js")); err != nil {
		return "", errors.New("dynalite, the DynamoDB of the tests, is not in .tools/dynalite: run scripts/dynalite.sh, or leave these tests out with make test-short")
	}
	return dir, nil
}

// database starts an empty DynamoDB and returns its URL.
func (p *dynaliteProcess) database(account, region string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return "", p.broken
	}
	if _, err := fmt.Fprintf(p.stdin, "%s %s\n", account, region); err != nil {
		p.broken = fmt.Errorf("asking dynalite for a database: %w", err)
		return "", p.broken
	}
	select {
	case port, ok := <-p.ports:
		if ok {
			return "http://127.0.0.1:" + strings.TrimSpace(port), nil
		}
		p.broken = errors.New("node ended; what it said is on standard error")
	case <-time.After(dynaliteTimeout):
		p.broken = fmt.Errorf("dynalite did not start a database within %s", dynaliteTimeout)
	}
	return "", p.broken
}

// stop ends node and waits for it. Test binaries need not call it.
func (p *dynaliteProcess) stop() error {
	p.stdin.Close()
	return p.cmd.Wait()
}

// needDynalite starts node, or fails the test and says what is missing; with
// -short the test is skipped.
func needDynalite(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs dynalite; left out with -short")
	}
	if _, err := theDynalite(); err != nil {
		t.Fatalf("starting DynamoDB: %v", err)
	}
}
