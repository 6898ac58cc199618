package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

var screenshots = flag.String("screenshots", "", "write the screenshots of the page into this folder")

// largestScreenshot is how many bytes one may have, so that a clone stays small.
const largestScreenshot = 150 << 10

// TestScreenshots draws what docs/screenshots shows, from a world of which nothing
// is left to chance; without -screenshots the pictures are made, and thrown away.
func TestScreenshots(t *testing.T) {
	chromium(t)
	dir := cmp.Or(*screenshots, t.TempDir())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newShowcase(t)
	b := newBrowser(t, s.serve(worldToken))
	take := func(name, path, says string) {
		t.Helper()
		for _, l := range looks() {
			b.show(l)
			b.open(path)
			b.reads(says)
			if strings.HasPrefix(name, "run-log") {
				b.reads("The run has ended") // all lines are there, and none will move the others
				mustEval[bool](b, `(document.querySelector("#log").scrollIntoView({block: "start", behavior: "instant"}), true)`)
			}
			picture := b.picture()
			if len(picture) > largestScreenshot {
				t.Errorf("%s-%s has %d bytes, more than %d", name, l.name, len(picture), largestScreenshot)
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+l.name+".png"), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b.wantQuiet()
	}
	take("login", "/login", "Token")
	b.server = s.serve("") // where whoever looks may decide
	take("board", "/", "research")
	take("target", "/targets/prod/us-east-1/research", "2.4.0")
	take("run", "/runs/"+s.waiting, "Approve this plan")
	take("run-log", "/runs/"+s.failed, "not authorized")
	take("releases", "/releases", "reserch")
	take("audit", "/audit", "run.")
	take("inventory", "/inventory", "aws_")
}

// picture is what is to be seen, as a PNG of at most 256 colours.
func (b *browser) picture() []byte {
	b.t.Helper()
	// What an update or a font still moves is waited for by two frames, and a caret
	// would blink.
	mustEval[bool](b, `(document.activeElement?.blur(), document.fonts.ready).then(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))`)
	var raw []byte
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		got, err := cdp.Call(ctx, t, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng})
		raw = got.Data
		return err
	}))
	full, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, fewColours(full)); err != nil {
		b.t.Fatal(err)
	}
	return out.Bytes()
}

// fewColours keeps the 256 colours that a picture has most of, and takes the
// nearest of them for the others.
func fewColours(full image.Image) *image.Paletted {
	count := map[color.RGBA]int{}
	bounds := full.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	colours := make([]color.RGBA, 0, len(count))
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	palette := color.Palette{}
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colours {
		index[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			out.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	return out
}

// showcase is an installation of some weeks, in which all that the page can show is
// to be seen. Its clock stands still between what happens.
type showcase struct {
	t               *testing.T
	store           *store.Store
	now             time.Time
	waiting, failed string // runs
}

// showcaseTime is when somebody looks.
var showcaseTime = time.Date(2026, 3, 2, 14, 30, 0, 0, time.UTC)

func newShowcase(t *testing.T) *showcase {
	t.Helper()
	stopDatabaseClock(t, showcaseTime)
	s := &showcase{t: t, now: showcaseTime}
	var err error
	s.store, err = store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(t.TempDir(), "waymark.db"), Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.history()
	s.now = showcaseTime
	for _, name := range []string{"waymark-a", "waymark-b"} {
		err := s.store.Join(t.Context(), store.Instance{ID: name, Name: name, Host: name + ".example.org", Pool: release.DefaultPool,
			Roles: []string{"all"}, Version: "1.0.0", ConfigDigest: "sha256:" + sum("waymark.hcl")})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// serve starts a server with or without a token, and gives its address.
func (s *showcase) serve(token string) string {
	s.t.Helper()
	keys := &auditKeys{store: s.store, given: fixedAuditKey("waymark.example.org/log")}
	if _, err := s.store.KeepSigningKey(s.t.Context(), keys.next, audit.Entry{Action: "audit.key_created"}); err != nil {
		s.t.Fatal(err)
	}
	srv, err := server.New(server.Config{Store: s.store, Version: "1.0.0", Now: func() time.Time { return s.now }, Token: token,
		Self: "waymark-a", ConfigDigest: "sha256:" + sum("waymark.hcl"), Audit: server.AuditConfig{Sign: keys.sign}, Logs: s.log,
		Decide: func(context.Context, int64, release.Verdict) (release.Run, error) {
			return release.Run{}, release.ErrConflict // nobody decides in a picture
		},
		Order:   func(context.Context, release.Order) (release.Run, error) { return release.Run{}, release.ErrConflict },
		Locks:   func(context.Context, *release.Target) ([]release.HeldLock, error) { return nil, nil },
		Changes: showcaseCommits,
		Public:  func(env string) bool { return env == "staging" },
		Source:  sourceOf(&config.Config{Repositories: []config.Repository{{Name: "infra", URL: "https://github.com/example/infra.git"}}})})
	if err != nil {
		s.t.Fatal(err)
	}
	h := httptest.NewUnstartedServer(nil)
	h.Config = srv.HTTPServer()
	h.Start()
	s.t.Cleanup(h.CloseClientConnections)
	return h.URL
}

// history is what happened, from the oldest on.
func (s *showcase) history() {
	scopes := []string{"global", "us-east-1", "eu-central-1", "ap-southeast-1"}
	day := func(n, hour, minute int) {
		s.now = showcaseTime.AddDate(0, 0, n).Truncate(24 * time.Hour).Add(time.Duration(hour*60+minute) * time.Minute)
	}
	for i, team := range []string{"research", "risk", "platform"} {
		for j, version := range []string{"2.2.0", "2.3.0", "2.4.0"} {
			for k, env := range []string{"dev", "staging", "prod"} {
				if k+j > 3 || k == 2 && j == 2 {
					continue // not promoted yet
				}
				for n, scope := range scopes {
					day(-9+3*j+k, 8+i, 4*n)
					s.deploy(env+"_"+scope+"/"+team+"/"+version, release.Succeeded)
				}
			}
		}
	}
	day(-1, 9, 0)
	s.deploy("prod_global/research/2.4.0", release.Succeeded)
	s.refuse("dev_us-east-1/reserch/2.4.1", "there is no team “reserch”; did you mean research? Delete the tag and push dev_us-east-1/research/2.4.1")
	s.deploy("prod_us-east-1/research/2.4.0", release.Succeeded)
	day(0, 8, 40)
	s.refuse("prod_us-east-1/risk/2.1.9", "version 2.1.9 is older than 2.3.0, which is deployed; to go back, roll back")
	s.deploy("dev_us-east-1/research/2.5.0", release.Succeeded)
	s.deploy("dev_eu-central-1/research/2.5.0", release.Succeeded)
	day(0, 13, 52)
	s.failed = s.deploy("dev_ap-southeast-1/risk/2.5.0", release.Failed)
	day(0, 14, 6)
	s.waiting = s.deploy("prod_eu-central-1/research/2.4.0", release.AwaitingApproval)
	day(0, 14, 21)
	s.deploy("staging_us-east-1/platform/2.5.0", release.Unknown)
	day(0, 14, 29)
	s.deploy("dev_us-east-1/platform/2.5.0", release.Running)
	_, err := s.store.SetFreeze(s.t.Context(), release.Freeze{Where: release.Target{Env: "prod", Team: "risk"}, Reason: "quarter's end", CreatedBy: "grace@example.org"}, 28*time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
}

func sum(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:])
}

// release is a tag as it was seen.
func (s *showcase) release(tag string, d release.Decision, reason string) release.Release {
	return release.Release{Repository: "infra", Tag: tag, ObjectID: sum("tag " + tag)[:40], Commit: sum("commit " + tag[strings.LastIndex(tag, "/"):])[:40],
		Tagger: "Ada Lovelace <ada@example.org>", TaggedAt: s.now.Add(-time.Minute), Message: "Release " + tag, Author: "Ada Lovelace <ada@example.org>",
		Committer: "Ada Lovelace <ada@example.org>", Decision: d, Reason: reason}
}

func (s *showcase) refuse(tag, reason string) {
	s.t.Helper()
	s.now = s.now.Add(time.Minute)
	if _, _, err := s.store.Admit(s.t.Context(), store.Admission{Release: s.release(tag, release.Refused, reason)}); err != nil {
		s.t.Fatal(err)
	}
}

// deploy takes the run of a tag as far as state.
func (s *showcase) deploy(tag string, state release.State) string {
	s.t.Helper()
	r := s.release(tag, release.Admitted, "")
	cut := strings.LastIndex(tag, "/")
	var err error
	if r.Target, err = release.ParseTarget(tag[:cut]); err != nil {
		s.t.Fatal(err)
	}
	r.Version = tag[cut+1:]
	account := map[string]string{"dev": "111122223333", "staging": "444455556666", "prod": "777788889999"}[r.Target.Env]
	admission := store.Admission{Release: r, Info: store.TargetInfo{Account: account, Region: strings.ReplaceAll(r.Target.Scope, "global", "us-east-1"),
		Backend: store.BackendInfo{Kind: "s3", Bucket: "org-awesome-tf-state-" + r.Target.Env, Lock: "org-awesome-tf-state-lock-" + r.Target.Env,
			Key: r.Target.Team + "/" + r.Target.Env + "-" + r.Target.Scope + "/terraform.tfstate"}}}
	if r.Target.Env == "prod" {
		admission.Approvals = 1
		admission.Requirements = []release.Requirement{{Count: 1, From: []string{"group:release-managers"}, Why: "environment prod"}}
	}
	_, id, err := s.store.Admit(s.t.Context(), admission)
	if err == nil {
		_, _, err = s.store.Start(s.t.Context(), id, "waymark-a")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.run(id, r.Target, state)
	return release.FormatID(id)
}

// run takes a run that was started through its stages.
func (s *showcase) run(id int64, target release.Target, state release.State) {
	s.t.Helper()
	plan, content, digest := showcasePlan(), showcaseContent(), "sha256:"+sum(fmt.Sprint("plan ", id))
	plan.Digest = digest
	u := store.Update{Plan: &plan, Findings: showcaseFindings()}
	u.Change = func(r *store.Record) error {
		r.PlanDigest, r.Changes = digest, plan.Changes
		r.Findings = release.FindingCount{Warning: 1, Notice: 1}
		at := r.StartedAt
		stage := func(name release.StageName, took time.Duration, st release.StageState, says string) {
			s := release.Stage{Name: name, State: st, StartedAt: at, FinishedAt: at.Add(took), Summary: says}
			if st == release.StageRunning {
				s.FinishedAt = time.Time{}
			}
			r.SetStage(s)
			at = at.Add(took)
		}
		stage(release.StageCheckout, 400*time.Millisecond, release.StagePassed, r.Commit[:10])
		stage(release.StageConfig, 200*time.Millisecond, release.StagePassed, "14 files")
		stage(release.StageLint, 900*time.Millisecond, release.StagePassed, "1 notice")
		at = at.Add(-900 * time.Millisecond)
		stage(release.StageScan, 4500*time.Millisecond, release.StagePassed, "1 warning")
		at = at.Add(-4500 * time.Millisecond)
		stage(release.StageInit, 2100*time.Millisecond, release.StagePassed, "s3")
		stage(release.StagePlan, 6300*time.Millisecond, release.StagePassed, "2 to add, 1 to change, 1 to destroy")
		stage(release.StagePolicy, 100*time.Millisecond, release.StagePassed, "9 rules")
		switch state {
		case release.AwaitingApproval:
			stage(release.StageApproval, 0, release.StageRunning, "needs 1 approval from group:release-managers")
			r.ApproveBy = at.Add(72 * time.Hour)
			r.ApprovalsRequired = 1
			r.Requirements = []release.Requirement{{Count: 1, From: []string{"group:release-managers"}, Why: "environment prod"}}
		case release.Running, release.Unknown:
			stage(release.StageApply, 0, release.StageRunning, "")
		case release.Failed:
			stage(release.StageApply, 7400*time.Millisecond, release.StageFailed, "aws_s3_bucket.exports: not authorized to perform s3:CreateBucket")
		default:
			if r.ApprovalsRequired > 0 {
				stage(release.StageApproval, 4*time.Minute, release.StagePassed, "grace@example.org")
				r.Approvals = []release.Approval{{Actor: "grace@example.org", Groups: []string{"release-managers"}, PlanDigest: digest, At: at}}
			}
			stage(release.StageApply, 21*time.Second, release.StagePassed, "2 added, 1 changed, 1 destroyed")
		}
		s.now = at
		return nil
	}
	s.update(id, u)
	s.end(id, target, state, &content)
}

// end lets the run come to its state, with the entry that tells of it.
func (s *showcase) end(id int64, target release.Target, state release.State, content *release.StateContent) {
	s.t.Helper()
	entry := audit.Entry{Actor: "waymark", Action: "run." + string(state)}
	u := store.Update{Change: func(r *store.Record) error {
		r.State = state
		if state.Ended() && state != release.Unknown {
			r.FinishedAt = s.now
		}
		switch state {
		case release.Failed:
			r.Reason = "apply: aws_s3_bucket.exports: not authorized to perform s3:CreateBucket"
			entry.Reason = r.Reason
		case release.Unknown:
			r.Reason = "the runner ended in the middle of the apply"
			apply := r.Stage(release.StageApply)
			apply.State, apply.FinishedAt, apply.Summary = release.StageFailed, s.now, "its end was not seen"
			r.SetStage(apply)
			before, now := release.StateMark{Serial: 41, Lineage: "8d1f0f5c"}, release.StateMark{Serial: 42, Lineage: "8d1f0f5c"}
			r.Evidence = &release.Evidence{GatheredAt: s.now, Instance: "waymark-a", Runner: release.RunnerDied, EventsEnd: release.StageRunning,
				LastEvent: "aws_iam_role.exports: Modifications complete after 1s", LastEventAt: s.now,
				State: release.StateEvidence{Before: &before, Now: &now}}
		}
		return nil
	}}
	switch state {
	case release.Running:
		return
	case release.AwaitingApproval:
		entry.Action = "run.approval_requested"
	case release.Succeeded:
		u.Content = content
		if target.Env == "prod" {
			s.update(id, store.Update{Entry: audit.Entry{Actor: "grace@example.org", Action: "run.approved", Reason: "read the plan"}, Change: func(*store.Record) error { return nil }})
		}
	}
	u.Entry = entry
	s.update(id, u)
}

func (s *showcase) update(id int64, u store.Update) {
	s.t.Helper()
	if _, err := s.store.Update(s.t.Context(), id, u); err != nil {
		s.t.Fatal(err)
	}
}

// showcaseCommits are those between any two releases.
func showcaseCommits(context.Context, string, string, string, int) ([]server.Commit, bool, error) {
	return []server.Commit{
		{ID: sum("c3")[:40], Author: "Ada Lovelace", Subject: "Let the exports of research run for two hours"},
		{ID: sum("c2")[:40], Author: "Grace Hopper", Subject: "Name the ingest function after its team"},
		{ID: sum("c1")[:40], Author: "Ada Lovelace", Subject: "Give exports a bucket of their own"},
	}, false, nil
}

func showcasePlan() release.PlanSummary {
	aws := "registry.opentofu.org/hashicorp/aws"
	return release.PlanSummary{Changes: release.Changes{Add: 2, Change: 1, Destroy: 1}, Resources: []release.ResourceChange{
		{Address: "module.regional.aws_s3_bucket.exports", Type: "aws_s3_bucket", Provider: aws, Action: "create", Attributes: []release.AttributeChange{
			{Path: "bucket", After: "research-exports"}, {Path: "force_destroy", After: "false"}, {Path: "arn", After: "(known after apply)"}}},
		{Address: "module.regional.aws_iam_role.exports", Type: "aws_iam_role", Provider: aws, Action: "update", Attributes: []release.AttributeChange{
			{Path: "max_session_duration", Before: "3600", After: "7200"}, {Path: "tags.release", Before: "2.3.0", After: "2.4.0"}}},
		{Address: "module.regional.aws_lambda_function.ingest", Type: "aws_lambda_function", Provider: aws, Action: "replace", Reason: "function_name forces a replacement",
			Attributes: []release.AttributeChange{{Path: "function_name", Before: "ingest", After: "research-ingest"}, {Path: "environment.TOKEN", Before: "(sensitive)", After: "(sensitive)"}}},
	}, Outputs: []release.OutputChange{{Name: "exports_bucket", Action: "create", After: "research-exports"}}}
}

func showcaseContent() release.StateContent {
	var out release.StateContent
	for _, address := range []string{"module.regional.aws_iam_role.exports", "module.regional.aws_kms_key.data", "module.regional.aws_lambda_function.ingest",
		"module.regional.aws_s3_bucket.exports", "module.regional.aws_s3_bucket.raw", "module.regional.aws_sqs_queue.ingest"} {
		parts := strings.Split(address, ".")
		out.Resources = append(out.Resources, release.Resource{Address: address, Type: parts[2], Provider: "registry.opentofu.org/hashicorp/aws", Mode: "managed"})
	}
	return out
}

func showcaseFindings() []release.Finding {
	return []release.Finding{
		{Source: "checkov", Rule: "CKV_AWS_145", Severity: release.SeverityWarning, File: "modules/regional/exports.tf", Line: 3,
			Message: "Ensure that S3 buckets are encrypted with KMS by default", Resource: "aws_s3_bucket.exports"},
		{Source: "tflint", Rule: "terraform_unused_declarations", Severity: release.SeverityNotice, File: "variables.tf", Line: 12,
			Message: "variable \"legacy\" is declared but not used"},
	}
}

// log is the log of every run of the showcase, which ends as its run did.
func (s *showcase) log(ctx context.Context, id int64, q release.LogRange, each func(release.LogLine) error) (release.Run, error) {
	run, err := s.store.Run(ctx, id)
	if err != nil {
		return run, err
	}
	at := run.StartedAt
	for i, l := range showcaseLog(run.State == release.Failed) {
		at = at.Add(700 * time.Millisecond)
		l.N, l.At = int64(i+1), at
		if l.N < q.From {
			continue
		}
		if err := each(l); err != nil {
			return run, err
		}
	}
	return run, nil
}

func showcaseLog(failed bool) []release.LogLine {
	text := func(stage release.StageName, lines ...string) (out []release.LogLine) {
		for _, l := range lines {
			out = append(out, release.LogLine{Stage: stage, Text: l})
		}
		return out
	}
	begin := func(stage release.StageName) release.LogLine {
		return release.LogLine{Stage: stage, State: release.StageRunning}
	}
	end := func(stage release.StageName, state release.StageState, says string) release.LogLine {
		return release.LogLine{Stage: stage, State: state, Text: says}
	}
	lines := []release.LogLine{begin(release.StageInit)}
	lines = append(lines, text(release.StageInit, "Initializing the backend...", "Successfully configured the backend \"s3\"!", "Initializing modules...",
		"Initializing provider plugins...", "- Installed hashicorp/aws v6.31.0", "\x1b[32mOpenTofu has been successfully initialized!\x1b[0m")...)
	lines = append(lines, end(release.StageInit, release.StagePassed, "s3"), begin(release.StagePlan))
	lines = append(lines, text(release.StagePlan, "module.regional.aws_kms_key.data: Refreshing state... [id=6c1d]", "module.regional.aws_s3_bucket.raw: Refreshing state... [id=risk-raw]",
		"module.regional.aws_iam_role.exports: Plan to update", "module.regional.aws_lambda_function.ingest: Plan to replace",
		"module.regional.aws_s3_bucket.exports: Plan to create", "\x1b[1mPlan:\x1b[0m 2 to add, 1 to change, 1 to destroy.")...)
	lines = append(lines, end(release.StagePlan, release.StagePassed, "2 to add, 1 to change, 1 to destroy"))
	lines = append(lines, end(release.StagePolicy, release.StagePassed, "9 rules"), begin(release.StageApply))
	lines = append(lines, text(release.StageApply, "module.regional.aws_iam_role.exports: Modifying... [id=exports]",
		"\x1b[32mmodule.regional.aws_iam_role.exports: Modifications complete after 1s\x1b[0m", "module.regional.aws_s3_bucket.exports: Creating...")...)
	if failed {
		return append(append(lines, text(release.StageApply, "\x1b[31mError: creating S3 Bucket (risk-exports): operation error S3: CreateBucket,\x1b[0m",
			"\x1b[31m  api error AccessDenied: not authorized to perform s3:CreateBucket\x1b[0m")...),
			end(release.StageApply, release.StageFailed, "aws_s3_bucket.exports: not authorized to perform s3:CreateBucket"))
	}
	return append(append(lines, text(release.StageApply, "\x1b[32mApply complete!\x1b[0m Resources: 2 added, 1 changed, 1 destroyed.")...),
		end(release.StageApply, release.StagePassed, "2 added, 1 changed, 1 destroyed"))
}
