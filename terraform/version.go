package terraform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"runtime"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// questionStopTimeout is how long an interrupted question may go on before it
// is killed, by which nothing is lost.
const questionStopTimeout = 10 * time.Second

// maxAnswer bounds what a question may print, in bytes.
const maxAnswer = 16 << 20

// errTooLong ends a question whose answer is longer than maxAnswer.
var errTooLong = fmt.Errorf("its answer is longer than %d MiB", maxAnswer>>20)

// Version asks the engine for its version, such as "1.12.6", through
// terraform-exec. It is one process where that is an engine, and may be two
// where it is something else. A process that the engine leaves behind with the
// output open can make it wait, so it is for the operator's own executable, in
// an empty folder.
func (e *Engine) Version(ctx context.Context) (version string, err error) {
	// As in run: terraform-exec has the child killed with its thread as well.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if ctx.Err() != nil {
		return "", &Error{Command: "version", Err: stopped(ctx)}
	}
	tf, err := tfexec.NewTerraform(e.cfg.Dir, e.cfg.Path)
	if err != nil {
		return "", &Error{Command: "version", Err: err}
	}
	err = errors.Join(
		tf.SetEnv(tfexec.CleanEnv(maps.Clone(e.env))),
		tf.SetWaitDelay(min(e.cfg.StopTimeout, questionStopTimeout)))
	if err != nil {
		return "", &Error{Command: "version", Err: err}
	}
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	said := &notes{log: e.log}
	tf.SetStdout(&answerLimit{left: maxAnswer, stop: stop})
	tf.SetStderr(said)
	v, _, err := tf.Version(asking, true)
	if err == nil {
		return v.String(), nil
	}
	err = fmt.Errorf("%w: is %s really %s?", err, e.cfg.Path, e.cfg.Kind)
	var exit *exec.ExitError
	if errors.As(err, &exit) { // terraform-exec's own error repeats all of standard error
		err = exit
	}
	if cause := context.Cause(asking); errors.Is(cause, errTooLong) {
		err = cause
	}
	return "", failed(ctx, "version", err, parsePlain(string(said.text)), said.text)
}

// answerLimit stops a question whose answer is too long; terraform-exec keeps
// all of it in memory.
type answerLimit struct {
	left int
	stop context.CancelCauseFunc
}

func (l *answerLimit) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		l.stop(errTooLong)
		return 0, errTooLong
	}
	return len(p), nil
}
