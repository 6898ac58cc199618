package storm

import (
	"io"
	"net"
	"sync"
	"testing"
)

// What a proxy does with its connections.
const (
	passes = iota
	cuts   // ends them, and refuses new ones
	stalls // keeps them, and passes nothing on: a network that swallows packets
)

// proxy is one replica's way to the database.
type proxy struct {
	listener net.Listener
	socket   string // where it leads
	joined   sync.WaitGroup

	mu    sync.Mutex
	turn  *sync.Cond // the mode has changed
	mode  int
	conns map[net.Conn]bool
}

func newProxy(t *testing.T, socket string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, socket: socket, conns: map[net.Conn]bool{}}
	p.turn = sync.NewCond(&p.mu)
	p.joined.Go(p.accept)
	t.Cleanup(func() {
		p.set(cuts)
		listener.Close()
		p.joined.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) set(mode int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	if mode == cuts {
		for c := range p.conns {
			c.Close()
		}
	}
	p.turn.Broadcast()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.joined.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(near net.Conn) {
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
func (p *proxy) pass(to io.Writer, from io.Reader) {
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
func (p *proxy) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mode == stalls {
		p.turn.Wait()
	}
	return p.mode == passes
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == cuts {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
