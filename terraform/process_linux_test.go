package terraform_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waymark-cd/waymark/terraform"
)

// A caller restricts its own thread and with it the engine. "No new
// privileges" is such a restriction: of one thread, and of what it starts.
func TestTheEngineStartsOnTheCallersThread(t *testing.T) {
	b := newBench(t, terraform.Tofu, map[string]string{"x": ""}, script(t, "grep NoNewPrivs /proc/self/status >&2\nexit 1\n"))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		_, _ = b.Version(t.Context())
		_ = b.Validate(t.Context())
		_, _ = b.Show(t.Context(), b.plan)
		done <- err
	}()
	must(t, <-done)
	if got, want := b.text(), "NoNewPrivs:\t1\nNoNewPrivs:\t1\nNoNewPrivs:\t1\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
