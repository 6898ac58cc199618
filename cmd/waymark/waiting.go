package main

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/waymark-cd/waymark/server"
)

// waitingRoom answers on a listener while a service is being opened, which takes
// as long as its database does not answer. leave gives the listener back, with
// nobody else accepting on it.
func waitingRoom(l *net.TCPListener) (leave func()) {
	web := &http.Server{Handler: http.MaxBytesHandler(server.Waiting(versionText(), server.Check{Name: "database"}), 64<<10),
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}
	var done sync.WaitGroup
	done.Go(func() { _ = web.Serve(borrowed{l}) })
	return func() {
		_ = l.SetDeadline(time.Now()) // ends the Accept that waits
		done.Wait()
		_ = web.Close()
		_ = l.SetDeadline(time.Time{})
	}
}

// borrowed is a listener that whoever serves on it does not close.
type borrowed struct{ *net.TCPListener }

// Accept takes a deadline for the end: to a server one is a fault that passes.
func (l borrowed) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = net.ErrClosed
	}
	return c, err
}

// Close does nothing.
func (borrowed) Close() error { return nil }
