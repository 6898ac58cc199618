//go:build !linux

package runner

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/waymark-cd/waymark/release"
)

// Runners need Linux: pidfds, /proc, subreapers, Landlock. Elsewhere the package
// compiles, so that the command line works, and every start is refused.
var errNotLinux = fmt.Errorf("%w: runners need Linux, this is %s", release.ErrUnavailable, runtime.GOOS)

var errEnded = fmt.Errorf("%w: the runner has ended", release.ErrConflict)

// Interrupt asks the runner of a folder to stop; here there is none.
func Interrupt(string) error { return errNotLinux }

// KillLeftovers kills what a dead runner left; here there is none.
func KillLeftovers(string) (int, error) { return 0, nil }

// CalledByRun reports whether a run opened a connection; here nothing runs.
func CalledByRun(client, service netip.AddrPort) (bool, error) { return false, nil }

type processWatch struct{ ended <-chan struct{} }

func (w *processWatch) Close() {}

func watchClaim(claim) (*processWatch, error) { return nil, errNotLinux }
func watchChild(int) (*processWatch, error)   { return nil, errNotLinux }
func self() (claim, error)                    { return claim{}, errNotLinux }
func alive(claim) bool                        { return false }
func ownExecutable() (string, error)          { return "", errNotLinux }
func ownSession() *syscall.SysProcAttr        { return nil }
func becomeRunner() error                     { return errNotLinux }
func closeOnExec(*os.File)                    {}
func allocate(*os.File, int64) error          { return errNotLinux }
func checkChildren() error                    { return errNotLinux }

type threads struct{ active map[int]bool }

func (t *threads) run(func() error) error { return errNotLinux }
func (t *threads) killLeftovers() error   { return nil }

type sandbox struct{}

func newSandbox(string) (*sandbox, string, error) { return nil, "", errNotLinux }
func (b *sandbox) on() bool                       { return false }
func (b *sandbox) restrict(access) error          { return errNotLinux }
func (b *sandbox) cutsNetwork() bool              { return false }
func (b *sandbox) isolate(*exec.Cmd)              {}
