package testkit

import (
	"io"
	"net"
	"sync"
	"testing"
)

// ProxyMode is what a Proxy does with its connections.
type ProxyMode int

// The modes of a proxy.
const (
	Passes ProxyMode = iota
	Cuts             // ends them, and refuses new ones
	Stalls           // keeps them, and passes nothing on: a network that swallows packets
)

// Proxy is a TCP way to a Unix socket, such as a database's, that can fail.
type Proxy struct {
	listener net.Listener
	socket   string // where it leads
	joined   sync.WaitGroup

	mu    sync.Mutex
	turn  *sync.Cond // the mode has changed
	mode  ProxyMode
	conns map[net.Conn]bool
}

// NewProxy starts a proxy on a free loopback port, until the test ends.
func NewProxy(t testing.TB, socket string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, socket: socket, conns: map[net.Conn]bool{}}
	p.turn = sync.NewCond(&p.mu)
	p.joined.Go(p.accept)
	t.Cleanup(func() {
		p.Set(Cuts)
		listener.Close()
		p.joined.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes what is done with all connections, those that are open too.
func (p *Proxy) Set(mode ProxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	if mode == Cuts {
		for c := range p.conns {
			c.Close()
		}
	}
	p.turn.Broadcast()
}

// Mode is what Set said last.
func (p *Proxy) Mode() ProxyMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.joined.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(near net.Conn) {
	defer p.forget(near)
	if !p.keep(near) {
		return
	}
	far, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer p.forget(far)
	if !p.keep(far) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.pass(far, near)
		near.Close()
		far.Close()
	}()
	p.pass(near, far)
	near.Close()
	far.Close()
	<-done
}

// pass copies what one side says to the other, when the mode lets it.
func (p *Proxy) pass(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.wait() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns when something may pass, and false when nothing may any more.
func (p *Proxy) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mode == Stalls {
		p.turn.Wait()
	}
	return p.mode == Passes
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == Cuts {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
