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
	tfjson "github.com/hashicorp/terraform-json"
)

// questionStopTimeout is how long an interrupted question may go on before it
// is killed, by which nothing is lost.
const questionStopTimeout = 10 * time.Second

// maxAnswer bounds what a question may print, in bytes.
const maxAnswer = 16 << 20

// errTooLong ends a question whose answer is longer than maxAnswer.
var errTooLong = fmt.Errorf("its answer is longer than %d MiB", maxAnswer>>20)

// Version asks the engine for its version, such as "1.12.6". It is one process
// where that is an engine, and may be two where it is something else.
func (e *Engine) Version(ctx context.Context) (version string, err error) {
	err = e.ask(ctx, "version", func(ctx context.Context, tf *tfexec.Terraform) error {
		v, _, err := tf.Version(ctx, true)
		if err != nil {
			return fmt.Errorf("%w: is %s really %s?", err, e.cfg.Path, e.cfg.Kind)
		}
		version = v.String()
		return nil
	})
	return version, err
}

// Validate checks the code of an initialised directory, whatever the variables'
// values. It is two processes, the first asks for the version. What it finds
// wrong is an *Error with a diagnostic for each problem; an *Error without one
// says that the question could not be answered.
func (e *Engine) Validate(ctx context.Context) error {
	var answer *tfjson.ValidateOutput
	err := e.ask(ctx, "validate", func(ctx context.Context, tf *tfexec.Terraform) (err error) {
		answer, err = tf.Validate(ctx)
		return err
	})
	if err != nil {
		return err
	}
	failure := &Error{Command: "validate"}
	for _, d := range answer.Diagnostics {
		diag := diagnosticOf(d)
		e.log(diag.lines()...)
		failure.add(diag)
	}
	if answer.Valid {
		return nil
	}
	return failure
}

// ask puts a question to the engine through terraform-exec: something that
// holds no lock, writes no state and prints one document. Values that
// terraform-exec refuses in the environment (TF_VAR_*, the workspace) have no
// part in such an answer and are left out.
func (e *Engine) ask(ctx context.Context, name string, question func(context.Context, *tfexec.Terraform) error) error {
	// As in run: terraform-exec has the child killed with its thread as well.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if ctx.Err() != nil {
		return &Error{Command: name, Err: stopped(ctx)}
	}
	tf, err := tfexec.NewTerraform(e.cfg.Dir, e.cfg.Path)
	if err != nil {
		return &Error{Command: name, Err: err}
	}
	err = errors.Join(
		tf.SetEnv(tfexec.CleanEnv(maps.Clone(e.env))),
		tf.SetWaitDelay(min(e.cfg.StopTimeout, questionStopTimeout)),
		// Otherwise it would wait, also when ctx has ended, for a process that
		// the engine left behind and that holds the output open.
		tf.SetEnableLegacyPipeClosing(true))
	if err != nil {
		return &Error{Command: name, Err: err}
	}
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	said := &notes{log: e.log}
	tf.SetStdout(&answerLimit{left: maxAnswer, stop: stop})
	tf.SetStderr(said)
	if err = question(asking, tf); err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) { // terraform-exec's own error repeats all of standard error
		err = exit
	}
	if cause := context.Cause(asking); errors.Is(cause, errTooLong) {
		err = cause
	}
	return failed(ctx, name, err, parsePlain(string(said.text)), said.text)
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
