package credentials_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// providerOut, in the environment, makes this program the provider: it writes
// there what it finds and waits until it may end.
const providerOut = "CREDENTIALS_TEST_PROVIDER_OUT"

func TestMain(m *testing.M) {
	if out := os.Getenv(providerOut); out != "" {
		if err := provide(out); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// found is what the provider found.
type found struct {
	ARN string   // who it is, by the SDK's default chain
	Env []string // its environment
}

// provide asks who it is in the way in which a provider does.
func provide(out string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	who, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return err
	}
	text, err := json.Marshal(found{*who.Arn, os.Environ()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(out+".new", text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(out+".new", out); err != nil {
		return err
	}
	return await(ctx, out+".end")
}

// await returns when the file is there.
func await(ctx context.Context, file string) error {
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", file, ctx.Err())
		case <-tick.C:
		}
	}
}

// engines are those that a run's sessions must work with, and how each takes
// the addresses of a private AWS.
var engines = map[string]struct {
	endpoints string // written with those of S3, DynamoDB and STS
	lockfile  bool
}{
	"tofu":          {"endpoints = { s3 = %q, dynamodb = %q, sts = %q }\n    use_path_style = true\n", true},
	"terraform":     {"endpoints = { s3 = %q, dynamodb = %q, sts = %q }\n    use_path_style = true\n", true},
	"terraform-1.5": {"endpoint = %q\n    dynamodb_endpoint = %q\n    sts_endpoint = %q\n    force_path_style = true\n", false},
}

// bench is one run with a real engine.
type bench struct {
	*testing.T
	aws      *testkit.AWS
	broker   *credentials.Broker
	req      credentials.Request
	engine   string
	work     string
	sessions string // folder with the session's files
	out      string // where the provider writes
	env      map[string]string
}

func newBench(t *testing.T, engine string) *bench {
	path := testkit.Tool(t, engine)
	a, broker := start(t)
	a.CreateBucket("states-dev", "eu-central-1", "")
	a.CreateTable("locks-dev", "eu-central-1", "")
	b := &bench{T: t, aws: a, broker: broker, engine: path, work: t.TempDir(), sessions: t.TempDir(), out: filepath.Join(t.TempDir(), "provider")}
	b.req = request(with("use_lockfile", fmt.Sprint(engines[engine].lockfile), "dynamodb_table", "locks-dev"))
	self, err := os.Executable()
	must(t, err)
	lockfile := ""
	if engines[engine].lockfile {
		lockfile = "use_lockfile = true"
	}
	code := fmt.Sprintf("terraform {\n  backend \"s3\" {\n    %s%s\n  }\n}\nresource \"terraform_data\" \"x\" {\n  provisioner \"local-exec\" {\n    command = \"exec '%s'\"\n  }\n}\n",
		fmt.Sprintf(engines[engine].endpoints, a.Endpoints()["s3"], a.Endpoints()["dynamodb"], a.Endpoints()["sts"]), lockfile, self)
	must(t, os.WriteFile(filepath.Join(b.work, "main.tf"), []byte(code), 0o600))
	return b
}

// open opens the grant of a phase, and puts it where the run finds it.
func (b *bench) open(phase release.Phase, edits ...func(*credentials.Request)) credentials.Grant {
	b.Helper()
	b.req.Phase = phase
	for _, edit := range edits {
		edit(&b.req)
	}
	g, err := b.broker.Open(b.Context(), b.req)
	must(b.T, err)
	files, err := g.Files(b.sessions)
	must(b.T, err)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b.replace(name, files[name])
	}
	b.env = g.Environment(b.sessions)
	return g
}

// replace puts a file into the folder of the sessions by rename.
func (b *bench) replace(name string, text []byte) {
	b.Helper()
	path := filepath.Join(b.sessions, name)
	must(b.T, os.WriteFile(path+".new", text, 0o600))
	must(b.T, os.Rename(path+".new", path))
}

// command is the engine with the environment of the grant and no other.
func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.Context(), b.engine, args...)
	cmd.Dir = b.work
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + b.sessions + "/none", "TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1",
		"AWS_ENDPOINT_URL_STS=" + b.aws.Endpoints()["sts"], providerOut + "=" + b.out}
	for name, value := range b.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func (b *bench) run(args ...string) {
	b.Helper()
	if out, err := b.command(args...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", args[0], err, out)
	}
}

// init with the backend's arguments, as a run does.
func (b *bench) init(g credentials.Grant) {
	b.Helper()
	args := []string{"init"}
	values := map[string]string{"bucket": "states-dev", "key": stateKey, "region": "eu-central-1", "dynamodb_table": "locks-dev"}
	maps.Copy(values, g.BackendValues())
	for name, value := range values {
		args = append(args, "-backend-config="+name+"="+value)
	}
	b.run(args...)
}

// apply runs the saved plan; while the provider waits, meanwhile is called.
func (b *bench) apply(meanwhile func()) found {
	b.Helper()
	cmd := b.command("apply", "-no-color", "plan.bin")
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	must(b.T, cmd.Start())
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	go func() { ended <- cmd.Wait(); cancel() }()
	var got found
	if err := await(ctx, b.out); err == nil {
		text, err := os.ReadFile(b.out)
		must(b.T, err)
		must(b.T, json.Unmarshal(text, &got))
		meanwhile()
	}
	must(b.T, os.WriteFile(b.out+".end", nil, 0o600))
	if err := <-ended; err != nil {
		b.Fatalf("apply: %v\n%s", err, log.String())
	}
	return got
}

// checkState wants the state written, nothing left beside it, and nobody but
// the run's session to have touched S3 and DynamoDB.
func (b *bench) checkState() {
	b.Helper()
	if text, ok := b.aws.Object("states-dev", stateKey); !ok || !strings.Contains(string(text), `"terraform_data"`) {
		b.Errorf("the state is %q, %v", text, ok)
	}
	if got := b.aws.Objects("states-dev"); len(got) != 1 {
		b.Errorf("objects %q", got)
	}
	locked := 0
	for _, r := range b.aws.Requests() {
		if r.Service == "dynamodb" && r.Action == "PutItem" {
			locked++
		}
		if (r.Service == "s3" || r.Service == "dynamodb") && (!strings.Contains(r.Principal, ":assumed-role/WaymarkRun/waymark-7-") || !r.Allowed) {
			b.Errorf("%s was asked for %s %s by %s, allowed: %v", r.Service, r.Action, r.Resource, r.Principal, r.Allowed)
		}
	}
	if locked < 3 { // by plan and apply, and the state's digest
		b.Errorf("the table was written %d times", locked)
	}
}

func eachEngine(t *testing.T, test func(*bench)) {
	for _, engine := range slices.Sorted(maps.Keys(engines)) {
		t.Run(engine, func(t *testing.T) { test(newBench(t, engine)) })
	}
}

func TestEnginesWorkWithKeysInTheEnvironment(t *testing.T) {
	eachEngine(t, func(b *bench) {
		short := func(r *credentials.Request) { r.Lifetime = time.Minute }
		b.init(b.open(release.PhasePlan, short))
		b.run("plan", "-out=plan.bin")
		b.open(release.PhaseApply)
		if got := b.apply(func() {}); !strings.Contains(got.ARN, ":assumed-role/WaymarkRun/waymark-7-") {
			b.Errorf("the provider is %s", got.ARN)
		}
		b.checkState()
		if files, err := os.ReadDir(b.sessions); err != nil || len(files) > 0 {
			b.Errorf("files %v, %v", files, err)
		}
	})
}

// The code's provider is the account's role and the backend the run's session,
// also in a plan that was made without a role of its own; none of them has keys
// in the environment.
func TestEnginesWorkWithTwoProfiles(t *testing.T) {
	eachEngine(t, func(b *bench) {
		g := b.open(release.PhasePlan, func(r *credentials.Request) { r.Lifetime, r.TwoProfiles = time.Minute, true })
		b.init(g)
		b.run("plan", "-out=plan.bin")
		b.open(release.PhaseApply, func(r *credentials.Request) { r.AccountRole = applyRole })
		got := b.apply(func() {})
		if !strings.HasPrefix(got.ARN, "arn:aws:sts::444455556666:assumed-role/InfraBuildRole/waymark-7-") {
			b.Errorf("the provider is %s", got.ARN)
		}
		for _, v := range got.Env {
			if name, _, _ := strings.Cut(v, "="); strings.Contains(v, "secret/of+") || name == "AWS_ACCESS_KEY_ID" || name == "AWS_SESSION_TOKEN" {
				b.Errorf("the environment holds %s", v)
			}
		}
		b.checkState()
	})
}

// A session that ends in the middle of an apply is read again from the file
// that has taken its place.
func TestEnginesReadARenewedSession(t *testing.T) {
	eachEngine(t, func(b *bench) {
		g := b.open(release.PhasePlan, func(r *credentials.Request) { r.Lifetime = 0 })
		b.init(g)
		b.run("plan", "-out=plan.bin")
		g = b.open(release.PhaseApply)
		// The session is good for an hour and more; the file says less, so that its
		// readers need not be waited for.
		ends := time.Now().Add(2 * time.Second).Truncate(time.Second)
		g.Run.Expires = ends
		files, err := g.Files(b.sessions)
		must(b.T, err)
		b.replace("run.json", files["run.json"])
		b.apply(func() {
			b.aws.ExpireSessions()
			b.open(release.PhaseApply, func(r *credentials.Request) { r.Renewal = true })
			<-time.After(time.Until(ends.Add(100 * time.Millisecond)))
		})
		b.checkState()
		text, err := os.ReadFile(filepath.Join(b.sessions, "run.json"))
		must(b.T, err)
		if all := b.aws.AssumeRoles(); len(all) != 3 || !strings.Contains(string(text), all[2].AccessKeyID) {
			b.Errorf("assumed %+v, file %s", all, text)
		}
	})
}
