package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// awsConfig is the layout of the AWS sample: a bucket and a lock table per
// environment, the account from the repository, one role to run with.
const awsConfig = `
server {
  listen         = "127.0.0.1:0"
  data_dir       = "data"
  max_runs       = 4
  shutdown_grace = "100ms"
}
repository "infra" {
  url  = env("WORLD_REMOTE")
  poll = "1s"
}
engine {
  kind    = env("WORLD_KIND")
  path    = env("WORLD_ENGINE")
  timeout = "50m"
}
aws {
  region    = "us-east-1"
  endpoints = { sts = env("AWS_STS"), s3 = env("AWS_S3"), dynamodb = env("AWS_DYNAMODB") }
}
backend "s3" {
  bucket  = "org-awesome-tf-state-${env}"
  key     = "${team}/${env}-${scope}/terraform.tfstate"
  region  = "us-east-1"
  encrypt = true
  $lock
}
stack {
  var_files = ["environments/${env}/${team}/variables.tfvars"]
  variables = { env = env, region = region }
  module    = scope == "global" ? "module.global" : "module.regional"
  account   = tfvar("environments/${env}/${team}/variables.tfvars", "account")
}
credentials {
  run_role    = "arn:aws:iam::111122223333:role/WaymarkRun"
  external_id = "waymark-4711"
  $roles
}
global_region = "us-east-1"
teams         = ["research", "risk"]
environment "dev" {
  regions  = ["us-east-1", "eu-central-1"]
  accounts = ["444455556601", "444455556602"]
}
environment "prod" {
  regions  = ["us-east-1", "eu-central-1"]
  accounts = ["444455556603", "444455556604"]
}
`

const (
	tableLock = `dynamodb_table = "org-awesome-tf-state-lock-${env}"`
	fileLock  = `use_lockfile = true`
)

// awsFiles is an infrastructure repository in the layout of the AWS sample.
func awsFiles() map[string]string {
	files := map[string]string{
		"main.tf": `
terraform {
  backend "s3" {}
}
variable "env" { type = string }
variable "region" { type = string }
variable "account" { type = string }
module "global" {
  source = "./modules/global"
  place  = "${var.env}/${var.account}"
}
module "regional" {
  source = "./modules/regional"
  place  = "${var.env}/${var.account}/${var.region}"
}
`,
		"modules/global/main.tf":   worldModule,
		"modules/regional/main.tf": worldModule,
	}
	for i, cell := range []string{"dev/research", "dev/risk", "prod/research", "prod/risk"} {
		files["environments/"+cell+"/variables.tfvars"] = fmt.Sprintf("account = \"44445555660%d\"\n", i+1)
	}
	return files
}

const worldModule = `
variable "place" { type = string }
resource "terraform_data" "it" { input = var.place }
`

// newAWSWorld is an installation whose state lives in S3.
func newAWSWorld(t *testing.T, engine, lock, roles string) (*world, *testkit.AWS) {
	t.Helper()
	w, cloud := newAWSWorldWithout(t, engine, lock, roles)
	for _, env := range []string{"dev", "prod"} {
		cloud.CreateBucket("org-awesome-tf-state-"+env, "", "")
		cloud.CreateTable("org-awesome-tf-state-lock-"+env, "", "")
	}
	return w, cloud
}

// newAWSWorldWithout is newAWSWorld before anybody made buckets and tables.
func newAWSWorldWithout(t *testing.T, engine, lock, roles string) (*world, *testkit.AWS) {
	t.Helper()
	cloud := testkit.StartAWS(t)
	const service = "arn:aws:iam::" + testkit.AWSAccount + ":user/waymark"
	cloud.Role("arn:aws:iam::111122223333:role/WaymarkRun", testkit.RoleOptions{Trusts: []string{service}, ExternalID: "waymark-4711"})
	id, secret := cloud.Service()
	t.Setenv("AWS_ACCESS_KEY_ID", id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	cloud.NeedDynamoDB()
	w := &world{t: t, remote: testkit.NewRemote(t), dir: t.TempDir(), log: &syncBuffer{}}
	w.remote.Commit(awsFiles())
	w.file = filepath.Join(w.dir, "waymark.hcl")
	at := cloud.Endpoints()
	kind, _, _ := strings.Cut(engine, "-")
	w.env = map[string]string{"WORLD_REMOTE": w.remote.Dir, "WORLD_ENGINE": testkit.Tool(t, engine), "WORLD_KIND": kind,
		"AWS_STS": at["sts"], "AWS_S3": at["s3"], "AWS_DYNAMODB": at["dynamodb"]}
	text := strings.NewReplacer("$lock", lock, "$roles", roles).Replace(awsConfig)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.stop != nil {
			w.entriesFit()
			w.stop()
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", w.log.String())
		}
	})
	return w, cloud
}

// awsTargets are all targets of awsConfig.
func awsTargets() []release.Target {
	var out []release.Target
	for _, env := range []string{"dev", "prod"} {
		for _, scope := range []string{"global", "us-east-1", "eu-central-1"} {
			for _, team := range []string{"research", "risk"} {
				out = append(out, release.Target{Env: env, Scope: scope, Team: team})
			}
		}
	}
	return out
}

// accountOf is a target's account in awsFiles.
func accountOf(t release.Target) string {
	n := 1
	if t.Env == "prod" {
		n += 2
	}
	if t.Team == "risk" {
		n++
	}
	return fmt.Sprintf("44445555660%d", n)
}

// TestStatesInS3 deploys every target of the sample's layout with each engine
// and each kind of lock: each state lies at exactly its own key, and each phase
// of each run asked for exactly its own session.
func TestStatesInS3(t *testing.T) {
	for _, c := range []struct{ name, engine, lock string }{
		{"OpenTofu, table", "tofu", tableLock},
		{"OpenTofu, lockfile", "tofu", fileLock},
		{"OpenTofu, both", "tofu", tableLock + "\n  " + fileLock},
		{"Terraform 1.5, table", "terraform-1.5", tableLock},
		{"Terraform, table", "terraform", tableLock},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, cloud := newAWSWorld(t, c.engine, c.lock, "")
			w.serve()
			w.contact()
			for _, target := range awsTargets() {
				w.push(target.String() + "/1.0")
			}
			for _, target := range awsTargets() {
				run := w.until(target.String()+"/1.0", release.Succeeded)
				if run.Changes != (api.Changes{Add: 1}) || run.Target.Account != accountOf(target) {
					t.Errorf("%s: changes %+v in account %s", target, run.Changes, run.Target.Account)
				}
			}
			wantObjects(t, cloud)
			wantSessions(t, cloud, w.runs())
		})
	}
}

// wantObjects holds that each bucket has the states of its environment, and
// nothing else.
func wantObjects(t *testing.T, cloud *testkit.AWS) {
	t.Helper()
	for _, env := range []string{"dev", "prod"} {
		var want []string
		for _, target := range awsTargets() {
			if target.Env == env {
				want = append(want, fmt.Sprintf("%s/%s-%s/terraform.tfstate", target.Team, target.Env, target.Scope))
			}
		}
		slices.Sort(want)
		if got := cloud.Objects("org-awesome-tf-state-" + env); !slices.Equal(got, want) {
			t.Errorf("the bucket of %s has\n%q, want\n%q", env, got, want)
		}
	}
}

// wantSessions holds every AssumeRole call: two for each run, for it alone.
func wantSessions(t *testing.T, cloud *testkit.AWS, runs []api.Run) {
	t.Helper()
	byRun := map[string][]testkit.AssumeRoleCall{}
	for _, call := range cloud.AssumeRoles() {
		byRun[call.Tags["run"]] = append(byRun[call.Tags["run"]], call)
	}
	for _, run := range runs {
		calls := byRun[run.ID]
		delete(byRun, run.ID)
		if len(calls) != 2 {
			t.Errorf("run %s of %s asked for %d sessions, want one to plan and one to apply", run.ID, run.Tag, len(calls))
			continue
		}
		for i, call := range calls {
			wantSession(t, run, call, i == 1)
		}
	}
	if len(byRun) > 0 {
		t.Errorf("sessions that no run accounts for: %v", byRun)
	}
}

func wantSession(t *testing.T, run api.Run, call testkit.AssumeRoleCall, apply bool) {
	t.Helper()
	target := run.Target
	bucket, key := "org-awesome-tf-state-"+target.Env, fmt.Sprintf("%s/%s-%s/terraform.tfstate", target.Team, target.Env, target.Scope)
	region := target.Scope
	if region == release.Global {
		region = "us-east-1"
	}
	wantTags := map[string]string{"env": target.Env, "scope": target.Scope, "team": target.Team, "run": run.ID, "tag": run.Tag}
	switch {
	case call.RoleARN != "arn:aws:iam::111122223333:role/WaymarkRun", call.ExternalID != "waymark-4711", call.Err != "",
		call.SourceIdentity != "waymark-run-"+run.ID, !strings.HasPrefix(call.SessionName, "waymark-"+run.ID+"-"), call.Region != region:
		t.Errorf("run %s: %+v", run.ID, call)
	}
	for k, v := range wantTags {
		if call.Tags[k] != v {
			t.Errorf("run %s: tag %s is %q, want %q", run.ID, k, call.Tags[k], v)
		}
	}
	if len(call.TransitiveTags) > 0 {
		t.Errorf("run %s: transitive tags %v", run.ID, call.TransitiveTags)
	}
	wantText(t, call.Policy, `"arn:aws:s3:::`+bucket+`/`+key+`"`, `"arn:aws:iam::`+target.Account+`:role/*"`)
	if apply != strings.Contains(call.Policy, `"s3:PutObject"],"Resource":"arn:aws:s3:::`+bucket+`/`+key+`"`) {
		t.Errorf("run %s: apply %t, policy %s", run.ID, apply, call.Policy)
	}
	for _, other := range awsTargets() {
		foreign := fmt.Sprintf("org-awesome-tf-state-%s/%s/%s-%s/", other.Env, other.Team, other.Env, other.Scope)
		if strings.Contains(call.Policy, foreign) != (foreign == bucket+"/"+strings.TrimSuffix(key, "terraform.tfstate")) {
			t.Errorf("run %s of %s: the policy is about %s: %s", run.ID, run.Tag, foreign, call.Policy)
		}
	}
}
