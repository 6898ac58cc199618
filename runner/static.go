package runner

import (
	"context"
	"errors"

	"github.com/waymark-cd/waymark/release"
)

// Static executes the config stage alone, in this process and without a sandbox:
// it reads the code in spec.WorkDir, and nothing of it is started. The result is
// what the plan phase of a run would end with at that stage, and OutcomePassed
// where it would go on. spec.Dir is an empty folder of the caller's; the backend's
// file is written to spec.WorkDir.
func Static(ctx context.Context, spec release.Spec, cfg Config) (release.Result, error) {
	hide, err := newMask(&spec)
	if err != nil {
		return release.Result{}, err
	}
	log, err := newJournal(spec.Dir, hide)
	if err != nil {
		return release.Result{}, err
	}
	p := newPhase(&spec, cfg, log)
	p.box = &sandbox{}
	stopped := p.stage(ctx, release.StageConfig, func() (summary string, err error) {
		_, _, summary, err = p.judgeConfig(ctx)
		return summary, err
	})
	return p.result(stopped), errors.Join(context.Cause(ctx), log.close())
}
