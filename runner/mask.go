package runner

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/hashicorp/hcl/v2/hclwrite"
	tfjson "github.com/hashicorp/terraform-json"
	"github.com/zclconf/go-cty/cty"

	"github.com/waymark-cd/waymark/mask"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// newMask returns a mask of what a task's own secrets are.
func newMask(spec *release.Spec) (*mask.Mask, error) {
	m, err := mask.New(spec.Mask)
	if err != nil {
		return nil, fmt.Errorf("%w task for the runner: %w", release.ErrInvalid, err)
	}
	m.Add(secretsOf(spec)...)
	return m, nil
}

// secretsOf lists what a task holds that must not appear anywhere: credentials in
// the environment, in the session's files and in the backend's arguments, and the
// key of the saved plan.
func secretsOf(spec *release.Spec) []string {
	secrets := []string{spec.PlanIdentity}
	for name, value := range spec.Env {
		secrets = append(secrets, mask.OfVariable(name, value)...)
	}
	for name, value := range spec.Backend.Values {
		if mask.SecretName(name) {
			secrets = append(secrets, value)
		}
		secrets = append(secrets, mask.InURL(value)...)
	}
	return append(secrets, sessionSecrets(spec.SessionDir)...)
}

var setting = regexp.MustCompile(`^\s*([a-z_]+)\s*=\s*(\S+)\s*$`)

// sessionSecrets reads what is secret in the files of a session, which are written
// as AWS's own are.
func sessionSecrets(dir string) []string {
	if dir == "" {
		return nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil // the engine will say so
	}
	var secrets []string
	for _, file := range files {
		data, err := readLimited(filepath.Join(dir, file.Name()), 1<<20)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		for lines.Scan() {
			if m := setting.FindStringSubmatch(lines.Text()); m != nil && mask.SecretName(m[1]) {
				secrets = append(secrets, m[2])
			}
		}
	}
	return secrets
}

// learnEvery is how often it is looked whether a session has been renewed. Who has
// opened a file of it anew needs longer to say what is in it.
const learnEvery = 250 * time.Millisecond

// learnSession makes known what the files of a session come to hold while a phase is
// at work, until stop, which waits for it, is called.
func learnSession(m *mask.Mask, dir string) (stop func()) {
	if dir == "" {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(learnEvery)
		defer tick.Stop()
		var seen time.Time
		for {
			// Each file is put in its place by a rename, which the folder tells, for
			// several of them maybe with one and the same time.
			if info, err := os.Stat(dir); err == nil && (!info.ModTime().Equal(seen) || time.Since(seen) < time.Second) {
				seen = info.ModTime()
				m.Add(sessionSecrets(dir)...)
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done); <-ended }
}

// learnInputs makes the values of sensitive variables known before anything of the
// code runs.
func (p *phase) learnInputs() {
	var files []string
	for _, f := range p.spec.Stack.VarFiles {
		files = append(files, filepath.Join(p.spec.WorkDir, f))
	}
	p.log.mask.Add(terraform.SensitiveInputs(p.root(), files, p.spec.Stack.Variables, p.spec.Env)...)
}

// settle makes known what a plan or an apply that held diagnostics back has come
// to hold, by the state, and logs them. The state is read only then. Where it
// cannot be, what was known before has to do.
func (e *engine) settle(ctx context.Context) {
	if !e.Held() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	var state *tfjson.State
	err := e.step(e.at(), func() (err error) {
		state, err = e.ShowState(ctx)
		return err
	})
	if err == nil {
		e.p.log.mask.Add(terraform.SensitiveState(state)...)
	}
	e.release()
}

// settleWithin bounds how long the reading of the state may hold up a failure.
const settleWithin = 30 * time.Second

// release logs what was held back, even into a log that is full.
func (e *engine) release() {
	e.urgent.Store(true)
	defer e.urgent.Store(false)
	e.Release()
}

// learnPlan makes known what a plan marks as sensitive, and logs what was held back.
func (e *engine) learnPlan(raw *tfjson.Plan) {
	e.p.log.mask.Add(terraform.Sensitive(raw)...)
	e.release()
}

// redact takes what is known to be secret out of an engine's error, before any of
// its text is cut.
func (p *phase) redact(err error) error {
	var failure *terraform.Error
	if errors.As(err, &failure) {
		failure.Redact(p.log.mask.Text)
	}
	return err
}

// keepSecrets writes what the plan marks as sensitive beside the saved plan, so
// that the log of its apply is masked from its first line.
func (p *phase) keepSecrets(raw *tfjson.Plan) error {
	key, err := age.ParseX25519Recipient(p.spec.PlanRecipient)
	if err != nil {
		return fmt.Errorf("%w recipient: %w", release.ErrInvalid, err)
	}
	values, err := json.Marshal(terraform.Sensitive(raw))
	if err == nil {
		err = encrypt(bytes.NewReader(values), p.spec.PlanFile+release.SecretsSuffix, key)
	}
	if err != nil {
		return fmt.Errorf("keeping what must be masked: %w", err)
	}
	return nil
}

// learnSecrets makes known what the plan that is to be applied marks as sensitive:
// what keepSecrets wrote, or the plan itself where that is missing.
func (p *phase) learnSecrets(ctx context.Context, e *engine, plan string) error {
	if values, err := readSecrets(p.spec.PlanFile+release.SecretsSuffix, p.spec.PlanIdentity); err == nil {
		p.log.mask.Add(values...)
		return nil
	}
	return e.step(release.StageApply, func() error {
		raw, err := e.Show(ctx, plan)
		if err == nil {
			p.log.mask.Add(terraform.Sensitive(raw)...)
		}
		return err
	})
}

func readSecrets(path, identity string) (values []string, err error) {
	key, err := identityOf(identity)
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	clear, err := age.Decrypt(in, key)
	if err != nil {
		return nil, err
	}
	return values, json.NewDecoder(io.LimitReader(clear, maxResult)).Decode(&values)
}

// hideArguments puts the secrets among the arguments of init into a file, which
// the process list does not show. remove removes it.
func (p *phase) hideArguments(args []string) (out []string, remove func() error, err error) {
	path := filepath.Join(p.tools("engine"), "backend.tfbackend")
	file := hclwrite.NewEmptyFile()
	for _, arg := range args {
		setting, found := strings.CutPrefix(arg, "-backend-config=")
		name, value, pair := strings.Cut(setting, "=")
		if !found || !pair || !mask.SecretName(name) && len(mask.InURL(value)) == 0 {
			out = append(out, arg)
			continue
		}
		file.Body().SetAttributeValue(name, cty.StringVal(value))
	}
	if len(out) == len(args) {
		return args, func() error { return nil }, nil
	}
	// What an engine ran before may have left a link there.
	err = removeFile(path)
	if err == nil {
		err = writeNew(path, file.Bytes())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("writing the backend's secrets: %w", err)
	}
	return append(out, "-backend-config="+path), func() error { return removeFile(path) }, nil
}

// writeNew makes a private file that is not there yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// init runs the engine's init with the backend's arguments.
func (p *phase) init(ctx context.Context, e *engine, stage release.StageName, args []string) error {
	args, remove, err := p.hideArguments(args)
	if err != nil {
		return err
	}
	return errors.Join(e.step(stage, func() error { return e.Init(ctx, args) }), remove())
}

// maskResult takes secrets out of all that a result says in words. Names, digests
// and states stay: the service goes by them.
func maskResult(m *mask.Mask, r *release.Result) {
	text := func(into ...*string) {
		for _, s := range into {
			*s = m.Text(*s)
		}
	}
	for i := range r.Stages {
		text(&r.Stages[i].Summary)
	}
	maskFindings(m, r.Findings)
	for i := range r.Requirements {
		text(&r.Requirements[i].Why)
	}
	for i := range r.Gates {
		text(&r.Gates[i].Summary)
		maskFindings(m, r.Gates[i].Findings)
		if report := r.Gates[i].Report; report != nil {
			report.Content = m.Known(report.Content) // it has fingerprints, which look random
		}
	}
	if r.Content != nil {
		for i := range r.Content.Resources {
			text(&r.Content.Resources[i].Address)
		}
	}
	for name, value := range r.Outputs {
		r.Outputs[name] = m.Text(value)
	}
	if r.Plan != nil {
		maskChanges(m, r.Plan.Resources)
		maskChanges(m, r.Plan.Drift)
		for i := range r.Plan.Outputs {
			text(&r.Plan.Outputs[i].Before, &r.Plan.Outputs[i].After)
		}
	}
	text(&r.Reason)
}

func maskFindings(m *mask.Mask, findings []release.Finding) {
	for i := range findings {
		f := &findings[i]
		f.Message, f.Resource, f.Suppressed = m.Text(f.Message), m.Known(f.Resource), m.Text(f.Suppressed)
	}
}

// digestPath are attributes whose values look random and are none.
var digestPath = regexp.MustCompile(`(?i)hash|sha\d|digest|checksum|md5|etag|fingerprint|thumbprint|version_id|public_key|certificate|(^|[._])(id|arn)$`)

func maskChanges(m *mask.Mask, changes []release.ResourceChange) {
	for i := range changes {
		c := &changes[i]
		c.Address, c.Reason = m.Known(c.Address), m.Known(c.Reason)
		for j := range c.Attributes {
			a, hide := &c.Attributes[j], m.Text
			if digestPath.MatchString(a.Path) {
				hide = m.Known
			}
			a.Path, a.Before, a.After = m.Known(a.Path), hide(a.Before), hide(a.After)
		}
	}
}
