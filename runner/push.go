package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/waymark-cd/waymark/release"
)

// erroredState is the file in which an engine leaves a state that its backend
// does not take.
const erroredState = "errored.tfstate"

// keepErroredState encrypts that file into the runner's own folder, which
// outlives the working copy, and says what a person does with it.
func (p *phase) keepErroredState() string {
	mark, err := KeepState(p.spec.WorkDir, p.spec.Stack.Path, p.spec.Dir, p.spec.PlanIdentity)
	if err == nil && mark == nil {
		err = errors.New("the engine left none")
	}
	if err != nil {
		return fmt.Sprintf("the state that the engine knew could not be kept either (%v): compare what is there with the code, and import it", err)
	}
	return fmt.Sprintf("the state that the engine knew (%s) is kept encrypted: push it with waymark runs resolve %d --push-state", mark, p.spec.RunID)
}

// KeepState makes the state that an apply could not write lie encrypted, with
// the run's age identity, in the folder of the runner that applied: what the
// engine left in the clear in the working copy is moved there. It returns what
// is kept; nil where there is nothing. It is for the runner at its end, and for
// the service once the runner is known dead.
func KeepState(workDir, stackPath, dir, identity string) (*release.StateMark, error) {
	key, err := identityOf(identity)
	if err != nil {
		return nil, fmt.Errorf("keeping the state: %w", err)
	}
	mark, err := sealErrored(workDir, stackPath, filepath.Join(dir, keptState), key)
	if err == nil && mark == nil {
		mark, err = markOfKept(filepath.Join(dir, keptState), key)
	}
	if err != nil {
		return nil, fmt.Errorf("keeping the state: %w", err)
	}
	return mark, nil
}

// sealErrored encrypts what the engine left into a file and removes it; nil
// where it left nothing. Code of the repository writes to the working copy:
// nothing outside of it is read, and nothing that is no regular file.
func sealErrored(workDir, stackPath, to string, key *age.X25519Identity) (*release.StateMark, error) {
	root, err := os.OpenRoot(workDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := filepath.Join(orDot(stackPath), erroredState)
	in, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxPlan {
		return nil, errors.Join(err, fmt.Errorf("%w: %s is no regular file of at most %d MiB", release.ErrInvalid, name, maxPlan>>20))
	}
	mark, err := release.ReadStateMark(in)
	if err != nil {
		return nil, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if err := encrypt(in, to, key.Recipient()); err != nil {
		return nil, err
	}
	return &mark, root.Remove(name)
}

// markOfKept reads which state a kept file holds; nil where there is none.
func markOfKept(path string, key *age.X25519Identity) (*release.StateMark, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	clear, err := age.Decrypt(in, key)
	if err != nil {
		return nil, err
	}
	mark, err := release.ReadStateMark(clear)
	return &mark, err
}

// removeErrored removes a file of that name before an apply begins, so that
// what is found after it is the engine's.
func removeErrored(workDir, stackPath string) error {
	root, err := os.OpenRoot(workDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(filepath.Join(orDot(stackPath), erroredState)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making room for what the engine may have to leave: %w", err)
	}
	return nil
}

// runPush is the push phase: a state that an apply could not write goes to its
// backend. The engine refuses one that does not belong there, or is older. A push
// raises the serial, so that a second one is refused too.
func (p *phase) runPush(ctx context.Context) error {
	return p.stage(ctx, release.StagePush, func() (string, error) {
		e, err := p.newEngine()
		if err != nil {
			return "", err
		}
		args, err := p.prepare(p.root(), p.spec.Engine, p.spec.Backend)
		if err != nil {
			return "", err
		}
		if err := p.init(ctx, e, release.StagePush, args); err != nil {
			return "", err
		}
		state := p.own(plainState)
		if err := decrypt(p.spec.StateFile, state, p.spec.PlanIdentity); err != nil {
			return "", fmt.Errorf("the kept state cannot be opened: %w", err)
		}
		err = e.step(release.StagePush, func() error {
			if until := p.spec.BeginBefore; !until.IsZero() && time.Now().After(until) {
				return fmt.Errorf("the push was to begin before %s and did not: its worker may have been declared dead since; nothing was pushed", until.UTC().Format(time.TimeOnly))
			}
			return e.PushState(ctx, state)
		})
		return "the state that the apply could not write is in its place", err
	})
}
