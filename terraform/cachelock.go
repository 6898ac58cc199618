package terraform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockCache waits for the one lock of a plug-in cache, across processes, until
// ctx ends. The kernel frees it when its holder dies.
func lockCache(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("plug-in cache: %w", err)
	}
	// A wait in flock cannot be interrupted, so it is left behind when ctx ends
	// and lets go of the lock once it has it.
	got := make(chan error, 1)
	go func() { got <- flock(f) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking the plug-in cache: %w", err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() {
			<-got
			f.Close()
		}()
		return nil, &Error{Command: "init", Err: fmt.Errorf("%w while another init held the plug-in cache", stopped(ctx))}
	}
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
