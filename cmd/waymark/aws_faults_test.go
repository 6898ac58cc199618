package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// changed is awsFiles with some of its files replaced.
func changed(files map[string]string) map[string]string {
	all := awsFiles()
	maps.Copy(all, files)
	return all
}

// TestAnotherTargetsStateIsOutOfReach holds that code which reads the state of
// another target with its run's own session is refused by AWS, also where it
// names the right bucket, and that the run says so.
func TestAnotherTargetsStateIsOutOfReach(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", tableLock, "")
	w.serve()
	w.contact()
	w.push("prod_us-east-1/risk/1.0")
	w.until("prod_us-east-1/risk/1.0", release.Succeeded)
	for i, other := range []string{"prod/risk/prod-us-east-1", "dev/risk/dev-us-east-1"} {
		env, key, _ := strings.Cut(other, "/")
		w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + fmt.Sprintf(`
data "terraform_remote_state" "other" {
  backend = "s3"
  config = {
    bucket         = "org-awesome-tf-state-%s"
    key            = "%s/terraform.tfstate"
    region         = "us-east-1"
    use_path_style = true
    endpoints      = { s3 = %q, sts = %q }
  }
}
`, env, key, cloud.Endpoints()["s3"], cloud.Endpoints()["sts"])}))
		before := len(cloud.Requests())
		tag := fmt.Sprintf("dev_us-east-1/research/1.%d", i)
		w.push(tag)
		run := w.until(tag, release.Failed)
		wantText(t, run.Reason, "plan: ")
		refusals := 0
		for _, r := range cloud.Requests()[before:] {
			if strings.Contains(r.Resource, key) {
				if r.Allowed {
					t.Errorf("AWS let %s through: %+v", tag, r)
				}
				refusals++
			}
		}
		if refusals == 0 {
			t.Errorf("%s never asked for the state of %s", tag, other)
		}
	}
}

// TestARunSeesNothingOfTheService looks at the environment from inside a run,
// and tries what belongs to the service.
func TestARunSeesNothingOfTheService(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{".aws/credentials", "token"} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = of-the-service\naws_secret_access_key = of-the-service\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, _ := newAWSWorld(t, "tofu", tableLock, "")
	t.Setenv("HOME", home)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, ".aws/credentials"))
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", filepath.Join(home, "token"))
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
	t.Setenv("AWS_SECURITY_TOKEN", "of-the-service")
	t.Setenv("WAYMARK_TOKEN", "of-the-service")
	w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + `
resource "terraform_data" "curious" {
  provisioner "local-exec" {
    command = <<-EOT
      env | sed -e 's/^\(AWS_[A-Z_]*KEY[A-Z_]*\|AWS_SESSION_TOKEN\)=\(..\).*/\1=\2.../' | sort
      for f in ` + home + `/.aws/credentials ` + home + `/token ` + filepath.Join(w.dir, "data/waymark.db") + ` ` + w.file + ` "$AWS_SHARED_CREDENTIALS_FILE"; do
        if cat "$f" > /dev/null 2>&1; then echo "could read $f"; else echo "could not read $f"; fi
      done
    EOT
  }
}
`}))
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	log := w.runLog(w.until("dev_us-east-1/research/1.0", release.Succeeded).ID)
	wantText(t, log, "AWS_ACCESS_KEY_ID=AS...", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION=us-east-1", "AWS_STS_REGIONAL_ENDPOINTS=regional", "could not read "+home+"/.aws/credentials", "could not read "+home+"/token",
		"could not read "+w.file)
	for _, never := range []string{"(local-exec): could read", "of-the-service", "WEB_IDENTITY", "CONTAINER_CREDENTIALS", "SECURITY_TOKEN", "WAYMARK_TOKEN",
		"HOME=" + home + "\n", "): WORLD_"} {
		if strings.Contains(log, never) {
			t.Errorf("a run sees %q:\n%s", never, log)
		}
	}
}

// TestAccountsThatTheRepositoryCannotWiden: a dev tag whose commit names an
// account of prod is refused, on record.
func TestAccountsThatTheRepositoryCannotWiden(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", tableLock, "")
	w.serve()
	w.contact()
	w.remote.Commit(changed(map[string]string{"environments/dev/research/variables.tfvars": "account = \"444455556603\"\n"}))
	w.push("dev_us-east-1/research/1.0")
	wantText(t, w.refused("dev_us-east-1/research/1.0"), `"444455556603"`, "is not one that environment dev allows")
	for _, e := range w.entries() {
		if e.Tag == "dev_us-east-1/research/1.0" && e.Action == "tag.refused" {
			wantText(t, e.Reason, "444455556603")
			if n := len(cloud.AssumeRoles()); n > 0 {
				t.Errorf("%d sessions were opened for a refused tag", n)
			}
			return
		}
	}
	t.Errorf("no audit entry tells of the refusal: %v", w.actions())
}

// holdsLock is code whose apply goes on until a file appears in the root module.
const holdsLock = `
resource "terraform_data" "slow" {
  triggers_replace = [timestamp()]
  provisioner "local-exec" {
    command = "touch began; while [ ! -e go ]; do sleep 0.1; done"
  }
}
`

// TestADeadRunsLockIsNamedAndReleased kills a run while its engine holds the
// state: locks names it, unlock frees it, the next run applies; a stranger's
// lock stays.
func TestADeadRunsLockIsNamedAndReleased(t *testing.T) {
	for name, lock := range map[string]string{"table": tableLock, "lockfile": fileLock, "both": tableLock + "\n  " + fileLock} {
		t.Run(name, func(t *testing.T) {
			w, cloud := newAWSWorld(t, "tofu", lock, "")
			w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + holdsLock}))
			w.serve()
			w.contact()
			if out := w.mustCLI("backend", "locks"); !strings.Contains(out, "No state is locked") {
				t.Errorf("before anything ran: %s", out)
			}
			const target = "dev_us-east-1/research"
			w.push(target + "/1.0")
			w.killApply("1/1")
			run := w.until(target+"/1.0", release.Unknown)

			wantText(t, w.mustCLI("backend", "locks"), target, run.ID+", dead", "OperationTypeApply", lockOwner())
			w.remote.Commit(awsFiles())
			w.mustCLI("backend", "unlock", target, "--reason", "its machine died")
			if code, _, errs := w.cli("backend", "unlock", target); code != exitNotFound {
				t.Errorf("a second time: exit %d: %s", code, errs)
			}
			wantText(t, w.mustCLI("backend", "locks"), "No state is locked")
			w.mustCLI("runs", "resolve", run.ID, "--abandon")
			w.push(target + "/1.1")
			w.until(target+"/1.1", release.Succeeded)

			stranger := w.lockByHand(cloud, lock)
			code, _, errs := w.cli("backend", "unlock", target)
			if code != exitRefused {
				t.Errorf("a stranger's lock: exit %d", code)
			}
			wantText(t, errs, "ada@laptop", "is no run of this service", "--force --id "+stranger)
			wantText(t, w.mustCLI("backend", "locks"), "ada@laptop", "none of ours")
			w.push(target + "/1.2")
			wantText(t, w.until(target+"/1.2", release.Failed).Reason, "locked by ada@laptop", "waymark backend unlock")
			if code, _, errs := w.cli("backend", "unlock", target, "--force", "--id", "another"); code != exitConflict {
				t.Errorf("another id: exit %d: %s", code, errs)
			}
			w.mustCLI("backend", "unlock", target, "--force", "--id", stranger, "--reason", "ada says so")
			w.mustCLI("runs", "retry", w.until(target+"/1.2", release.Failed).ID)
			w.until(target+"/1.2", release.Succeeded)
			w.wantUnlocked(run.ID, stranger)
		})
	}
}

// killApply waits until the apply of a run's attempt is under way and kills its
// runner, and with it the engine.
func (w *world) killApply(attempt string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "data/runs", attempt)
	w.await("an apply that holds the state", func() bool {
		_, err := os.Stat(filepath.Join(dir, "tree/began"))
		return err == nil
	})
	killRunner(w.t, filepath.Join(dir, "apply-1/runner.json"))
}

// lockByHand locks the state of dev_us-east-1/research as somebody's own engine
// would, and returns the lock's id.
func (w *world) lockByHand(cloud *testkit.AWS, lock string) string {
	const bucket, key = "org-awesome-tf-state-dev", "research/dev-us-east-1/terraform.tfstate"
	const id = "0d3bf2c4-8a3e-4b7e-9a51-3f6d2f0f9c11"
	info := fmt.Sprintf(`{"ID":%q,"Operation":"OperationTypeApply","Info":"","Who":"ada@laptop","Version":"1.12.6","Created":%q,"Path":%q}`,
		id, time.Now().UTC().Format(time.RFC3339Nano), bucket+"/"+key)
	if strings.Contains(lock, "dynamodb") {
		cloud.PutItem("org-awesome-tf-state-lock-dev", map[string]string{"LockID": bucket + "/" + key, "Info": info})
	}
	if strings.Contains(lock, "lockfile") {
		cloud.PutObject(bucket, key+".tflock", []byte(info))
	}
	return id
}

// wantUnlocked holds that the two releases are in the audit log: our own dead
// run's, and the stranger's by force.
func (w *world) wantUnlocked(run, stranger string) {
	w.t.Helper()
	own, forced := false, false
	for _, e := range w.entries() {
		if e.Action != "state.unlocked" {
			continue
		}
		own = own || e.RunID == run && e.Details["forced"] == false && e.Reason == "its machine died"
		forced = forced || e.Details["lock_id"] == stranger && e.Details["forced"] == true && e.Details["who"] == "ada@laptop" && e.Actor == "local"
	}
	if !own || !forced {
		w.t.Errorf("the audit log does not tell of both: own %t, forced %t", own, forced)
	}
}

// TestRolesOfTheAccount plans and applies with a role of its own each, assumed
// by the run's session: the backend goes on with the run's, the environment
// holds no key, and a service that starts anew renews what is on disk.
func TestRolesOfTheAccount(t *testing.T) {
	for _, engine := range []string{"tofu", "terraform-1.5"} {
		t.Run(engine, func(t *testing.T) {
			w, cloud := newAWSWorld(t, engine, tableLock, `
  plan_role  = "arn:aws:iam::${account}:role/WaymarkPlan"
  apply_role = "arn:aws:iam::${account}:role/InfraBuildRole"`)
			const run, account = "arn:aws:iam::111122223333:role/WaymarkRun", "arn:aws:iam::444455556601:role/"
			for _, role := range []string{"WaymarkPlan", "InfraBuildRole"} {
				cloud.Role(account+role, testkit.RoleOptions{Trusts: []string{run}})
			}
			w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + strings.Replace(holdsLock, "touch began", "env | grep AWS_ | sort; touch began", 1)}))
			w.serve()
			w.contact()
			const tag = "dev_us-east-1/research/1.0"
			w.push(tag)
			attempt := filepath.Join(w.dir, "data/runs/1/1")
			w.await("an apply", func() bool { _, err := os.Stat(filepath.Join(attempt, "tree/began")); return err == nil })
			calls := cloud.AssumeRoles()
			for i, want := range []struct{ caller, role string }{
				{"arn:aws:iam::111122223333:user/waymark", run}, {":assumed-role/WaymarkRun/", account + "WaymarkPlan"},
				{"arn:aws:iam::111122223333:user/waymark", run}, {":assumed-role/WaymarkRun/", account + "InfraBuildRole"},
			} {
				if len(calls) != 4 || !strings.Contains(calls[i].Caller, want.caller) || calls[i].RoleARN != want.role || calls[i].Err != "" {
					t.Fatalf("call %d, want %+v: %+v", i, want, calls)
				}
			}
			wantText(t, calls[0].Policy, `"Resource":"`+account+`WaymarkPlan"`)
			wantText(t, calls[2].Policy, `"Resource":"`+account+`InfraBuildRole"`)

			session := filepath.Join(attempt, "session/run.json")
			before, err := os.ReadFile(session)
			if err != nil {
				t.Fatal(err)
			}
			w.stop()
			w.serve()
			w.await("a renewed session", func() bool {
				now, err := os.ReadFile(session)
				return err == nil && string(now) != string(before)
			})
			if err := os.WriteFile(filepath.Join(attempt, "tree/go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			log := w.runLog(w.until(tag, release.Succeeded).ID)
			wantText(t, log, "AWS_PROFILE=waymark-account", "AWS_CONFIG_FILE="+attempt+"/session/config")
			if strings.Contains(log, "AWS_SECRET_ACCESS_KEY") || strings.Contains(log, "AWS_SESSION_TOKEN") {
				t.Errorf("the environment holds keys beside the files:\n%s", log)
			}
			w.await("the end of the session's files", func() bool { _, err := os.Stat(filepath.Dir(session)); return os.IsNotExist(err) })
		})
	}
}
