package backends_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/backends"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// engine makes a command of a real engine that reaches the cloud.
func (c *cloud) engine(t *testing.T, kind, dir string, args ...string) *exec.Cmd {
	t.Helper()
	id, secret := c.Service()
	cmd := exec.CommandContext(t.Context(), testkit.Tool(t, kind), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret}
	return cmd
}

func (c *cloud) run(t *testing.T, kind, dir string, args ...string) string {
	t.Helper()
	out, err := c.engine(t, kind, dir, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", kind, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// s3Engines are the engines that states in S3 are tried with, by tool.
var s3Engines = map[string]release.EngineSpec{"tofu": tofu, "terraform": terraform11, "terraform-1.5": terraform15}

// eachS3Engine runs a test with each engine and each way to lock that it knows.
func eachS3Engine(t *testing.T, test func(t *testing.T, kind string, lock map[string]string)) {
	for kind, e := range s3Engines {
		locks := map[string]map[string]string{"table": {"dynamodb_table": "locks-dev"}}
		if e.Version != "1.5.7" {
			locks["lockfile"] = map[string]string{"use_lockfile": "true"}
			locks["both"] = map[string]string{"dynamodb_table": "locks-dev", "use_lockfile": "true"}
		}
		for name, lock := range locks {
			t.Run(kind+" "+name, func(t *testing.T) { test(t, kind, lock) })
		}
	}
}

// The configuration's one spelling leads every engine to the bucket and the
// lock that it names; the backend assumes a role where it says so.
func TestTheStateIsInTheConfiguredBucket(t *testing.T) {
	const role = "arn:aws:iam::" + account + ":role/States"
	eachS3Engine(t, func(t *testing.T, kind string, lock map[string]string) {
		c := startCloud(t)
		c.CreateBucket("states-dev", "", "")
		c.CreateTable("locks-dev", "", "")
		c.Role(role, testkit.RoleOptions{Trusts: []string{"arn:aws:iam::" + account + ":user/waymark"}, ExternalID: "e-1"})
		spec := c.spec(t, lock)
		spec.Values["assume_role"] = `{"role_arn":"` + role + `","external_id":"e-1","session_name":"backend","duration":"30m"}`
		if serial, lineage, err := c.states.StateSerial(t.Context(), spec); serial != 0 || lineage != "" || err != nil {
			t.Errorf("before the first apply: %d %q %v", serial, lineage, err)
		}
		dir := write(t, map[string]string{"main.tf": s3Block("") + "resource \"terraform_data\" \"a\" {}\n"})
		args, err := backends.Prepare(dir, s3Engines[kind], spec)
		must(t, err)
		out := c.run(t, kind, dir, append([]string{"init", "-input=false", "-no-color"}, args...)...)
		if strings.Contains(strings.ToLower(out), "deprecated") && lock["dynamodb_table"] == "" {
			t.Errorf("init warns:\n%s", out)
		}
		c.run(t, kind, dir, "apply", "-auto-approve", "-input=false")
		if got := c.Objects("states-dev"); !slices.Equal(got, []string{"research/dev-global/terraform.tfstate"}) {
			t.Errorf("the bucket holds %q", got)
		}
		serial, lineage, err := c.states.StateSerial(t.Context(), spec)
		if serial < 1 || lineage == "" || err != nil {
			t.Errorf("serial %d, lineage %q, %v", serial, lineage, err)
		}
		if locks, err := c.states.Locks(t.Context(), spec); len(locks) != 0 || err != nil {
			t.Errorf("locks %+v, %v", locks, err)
		}
		for _, call := range c.AssumeRoles() {
			if call.RoleARN != role || call.ExternalID != "e-1" || call.SessionName != "backend" || call.Err != "" {
				t.Errorf("a role was assumed as %+v", call)
			}
		}
	})
}

// A dead engine's lock is seen with what it says of itself, keeps others out
// until it is released, and leaves the state's digest alone.
func TestADeadEnginesLockIsReleased(t *testing.T) {
	eachS3Engine(t, func(t *testing.T, kind string, lock map[string]string) {
		c := startCloud(t)
		c.CreateBucket("states-dev", "", "")
		c.CreateTable("locks-dev", "", "")
		spec := c.spec(t, lock)
		dir := write(t, map[string]string{"main.tf": `
resource "terraform_data" "first" {}
resource "terraform_data" "a" {
  input = terraform_data.first.id
  provisioner "local-exec" {
    command = "echo started; test -e done || exec sleep 600"
  }
}`})
		args, err := backends.Prepare(dir, s3Engines[kind], spec)
		must(t, err)
		c.run(t, kind, dir, append([]string{"init", "-input=false"}, args...)...)
		c.run(t, kind, dir, "apply", "-auto-approve", "-input=false", "-target=terraform_data.first")
		killMidway(t, c.engine(t, kind, dir, "apply", "-auto-approve", "-input=false", "-no-color"))

		locks, err := c.states.Locks(t.Context(), spec)
		must(t, err)
		var kinds []string
		for _, l := range locks {
			kinds = append(kinds, l.Kind)
			if !l.Held || l.ID != locks[0].ID || l.ID == "" || l.Who == "" || l.Operation != "OperationTypeApply" || l.Created.IsZero() || l.Version == "" {
				t.Errorf("lock %+v", l)
			}
		}
		var want []string
		if lock["dynamodb_table"] != "" {
			want = append(want, backends.LockDynamoDB)
		}
		if lock["use_lockfile"] != "" {
			want = append(want, backends.LockS3)
		}
		if !slices.Equal(kinds, want) {
			t.Fatalf("locks of %q, want %q", kinds, want)
		}
		if out, err := c.engine(t, kind, dir, "apply", "-auto-approve", "-input=false").CombinedOutput(); err == nil || !strings.Contains(string(out), locks[0].ID) {
			t.Errorf("the lock keeps nobody out: %v\n%s", err, out)
		}
		if err := c.states.Unlock(t.Context(), spec, "somebody-elses"); !errors.Is(err, release.ErrConflict) || !strings.Contains(err.Error(), locks[0].ID) {
			t.Errorf("another id: %v", err)
		}
		for _, l := range locks {
			must(t, c.states.Unlock(t.Context(), spec, l.ID, l.Kind))
		}
		if err := c.states.Unlock(t.Context(), spec, locks[0].ID); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("released twice: %v", err)
		}
		if lock["dynamodb_table"] != "" && c.item(t, "locks-dev", "states-dev/research/dev-global/terraform.tfstate-md5")["Digest"] == "" {
			t.Error("the digest is gone")
		}
		must(t, os.WriteFile(filepath.Join(dir, "done"), nil, 0o600))
		c.run(t, kind, dir, "apply", "-auto-approve", "-input=false")
	})
}

// killMidway starts an apply, and kills it and its children once it is at work.
func killMidway(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = ownGroup()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { killGroup(cmd.Process.Pid) })
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "(local-exec): started") {
	}
	killGroup(cmd.Process.Pid)
	_ = cmd.Wait()
}
