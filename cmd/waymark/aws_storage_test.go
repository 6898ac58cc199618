package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// setenv gives the command line what the service of a test world reads.
func (w *world) setenv() {
	for name, value := range w.env {
		w.t.Setenv(name, value)
	}
}

// TestStorageIsBootstrappedAndVerified makes the sample's buckets and tables
// from nothing, checks them, and weakens them one by one.
func TestStorageIsBootstrappedAndVerified(t *testing.T) {
	w, cloud := newAWSWorldWithout(t, "tofu", tableLock, "")
	w.setenv()
	code, out, errs := w.cli("backend", "verify", "--config", w.file)
	if code != exitRunFailed {
		t.Errorf("verify of nothing: exit %d\n%s", code, out)
	}
	wantText(t, errs, "org-awesome-tf-state-dev is missing")

	code, out, errs = w.cli("backend", "bootstrap", "--config", w.file)
	if code != exitRefused {
		t.Errorf("bootstrap without yes: exit %d: %s", code, errs)
	}
	wantText(t, out, "create", "org-awesome-tf-state-prod", "org-awesome-tf-state-lock-dev", "versioning")
	if n := len(cloud.Buckets()); n > 0 {
		t.Fatalf("%d buckets were made without a yes", n)
	}
	wantText(t, w.mustCLI("backend", "bootstrap", "--config", w.file, "--yes"), "create bucket org-awesome-tf-state-dev", "done")
	out = w.mustCLI("backend", "verify", "--config", w.file)
	for _, bad := range []string{"weaker", "missing", "unreadable"} {
		if strings.Contains(out, bad) {
			t.Errorf("verify after bootstrap says %s:\n%s", bad, out)
		}
	}
	wantText(t, w.mustCLI("backend", "bootstrap", "--config", w.file), "Nothing to do")

	for name, weaken := range map[string]func(*testing.T, *testkit.AWS){
		"versioning": suspendVersioning, "point-in-time recovery": stopRecovery,
	} {
		weaken(t, cloud)
		code, out, errs := w.cli("backend", "verify", "--config", w.file)
		if code != exitRunFailed || !strings.Contains(errs, name) {
			t.Errorf("without %s: exit %d: %s\n%s", name, code, errs, out)
		}
		w.mustCLI("backend", "bootstrap", "--config", w.file, "--yes")
		w.mustCLI("backend", "verify", "--config", w.file)
	}
	w.serve() // what bootstrap makes is what runs need
	w.contact()
	w.push("dev_global/risk/1.0")
	w.until("dev_global/risk/1.0", release.Succeeded)
}

// TestWhatIsWrongWithTheStorageIsSaid holds that each failure of AWS ends the
// run with a message to act on, and that the run can then be retried.
func TestWhatIsWrongWithTheStorageIsSaid(t *testing.T) {
	const tag = "dev_us-east-1/research/1.0"
	for name, c := range map[string]struct {
		lock  string
		wrong func(*testing.T, *world, *testkit.AWS)
		mend  func(*testing.T, *world, *testkit.AWS)
		says  []string
	}{
		"no bucket": {tableLock, func(t *testing.T, w *world, a *testkit.AWS) {},
			func(t *testing.T, w *world, a *testkit.AWS) {
				a.CreateBucket("org-awesome-tf-state-dev", "", "")
				a.CreateTable("org-awesome-tf-state-lock-dev", "", "")
			}, []string{"there is no such state bucket", "waymark backend bootstrap"}},
		"no table": {tableLock, func(t *testing.T, w *world, a *testkit.AWS) { a.CreateBucket("org-awesome-tf-state-dev", "", "") },
			func(t *testing.T, w *world, a *testkit.AWS) { a.CreateTable("org-awesome-tf-state-lock-dev", "", "") },
			[]string{"there is no such lock table", "waymark backend bootstrap"}},
		"no trust": {fileLock, func(t *testing.T, w *world, a *testkit.AWS) {
			a.CreateBucket("org-awesome-tf-state-dev", "", "")
			a.Role("arn:aws:iam::111122223333:role/WaymarkRun", testkit.RoleOptions{Trusts: []string{"arn:aws:iam::111122223333:user/else"}})
		}, func(t *testing.T, w *world, a *testkit.AWS) {
			a.Role("arn:aws:iam::111122223333:role/WaymarkRun", testkit.RoleOptions{Trusts: []string{"arn:aws:iam::111122223333:user/waymark"}, ExternalID: "waymark-4711"})
		}, []string{"arn:aws:iam::111122223333:role/WaymarkRun", "arn:aws:iam::111122223333:user/waymark", "sts:AssumeRole", "trust policy"}},
		"a digest that disagrees": {tableLock, func(t *testing.T, w *world, a *testkit.AWS) {
			a.CreateBucket("org-awesome-tf-state-dev", "", "")
			a.CreateTable("org-awesome-tf-state-lock-dev", "", "")
			a.PutItem("org-awesome-tf-state-lock-dev", digestItem("0123456789abcdef0123456789abcdef"))
		}, func(t *testing.T, w *world, a *testkit.AWS) {
			a.PutItem("org-awesome-tf-state-lock-dev", digestItem(""))
		}, []string{"digest in the lock table disagree"}},
		"a newer state": {fileLock, func(t *testing.T, w *world, a *testkit.AWS) {
			a.CreateBucket("org-awesome-tf-state-dev", "", "")
			a.PutObject("org-awesome-tf-state-dev", stateKey, []byte(`{"version":5,"terraform_version":"9.0.0","serial":1,"lineage":"x","outputs":{},"resources":[]}`))
		}, func(t *testing.T, w *world, a *testkit.AWS) {
			a.PutObject("org-awesome-tf-state-dev", stateKey, []byte(`{"version":4,"terraform_version":"1.5.0","serial":1,"lineage":"x","outputs":{},"resources":[]}`))
		}, []string{"newer version of the engine"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, cloud := newAWSWorldWithout(t, "tofu", c.lock, "")
			c.wrong(t, w, cloud)
			w.serve()
			w.contact()
			w.push(tag)
			run := w.until(tag, release.Failed)
			wantText(t, run.Reason, c.says...)
			c.mend(t, w, cloud)
			w.mustCLI("runs", "retry", run.ID)
			w.until(tag, release.Succeeded)
		})
	}
}

const stateKey = "research/dev-us-east-1/terraform.tfstate"

func digestItem(digest string) map[string]string {
	return map[string]string{"LockID": "org-awesome-tf-state-dev/" + stateKey + "-md5", "Digest": digest}
}

// TestAThrottledCloudIsWaitedFor holds that a run whose session AWS cannot give
// just now begins when it can.
func TestAThrottledCloudIsWaitedFor(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	cloud.Fail("sts", "AssumeRole", "Throttling", 400, 3)
	w.serve()
	w.contact()
	w.push("dev_us-east-1/research/1.0")
	w.until("dev_us-east-1/research/1.0", release.Succeeded)
	throttled := 0
	for _, call := range cloud.AssumeRoles() {
		if call.Err != "" {
			throttled++
		}
	}
	if throttled != 3 {
		t.Errorf("%d calls were throttled, want 3", throttled)
	}
}

// TestASessionThatEndsInTheMiddleOfAnApply holds that the run says so, keeps
// what it did, and can be retried.
func TestASessionThatEndsInTheMiddleOfAnApply(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	w.remote.Commit(changed(map[string]string{"modules/regional/main.tf": worldModule + holdsLock}))
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	w.push(tag)
	tree := w.dir + "/data/runs/1/1/tree"
	w.await("an apply", func() bool { _, err := os.Stat(tree + "/began"); return err == nil })
	cloud.ExpireSessions()
	if err := os.WriteFile(tree+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := w.until(tag, release.Unknown)
	wantText(t, run.Reason, "session of the run has expired", "kept encrypted", "waymark runs resolve "+run.ID)
	w.remote.Commit(awsFiles())
	w.mustCLI("runs", "resolve", run.ID, "--abandon")
	w.push("dev_us-east-1/research/1.1")
	w.until("dev_us-east-1/research/1.1", release.Succeeded)
}

// TestCodeCommitEventsStartRuns watches a CodeCommit repository with passwords
// made from the service's identity, and is told of a tag through the queue long
// before its next poll.
func TestCodeCommitEventsStartRuns(t *testing.T) {
	w, cloud := newAWSWorld(t, "tofu", fileLock, "")
	queue := cloud.CreateQueue("us-east-1", "waymark")
	url := cloud.CodeCommit(w.remote, "us-east-1", "infra")
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`url  = env("WORLD_REMOTE")`, `url  = env("WORLD_REMOTE")
  codecommit = "us-east-1"`, `poll = "1s"`, `poll = "1h"`, `dynamodb = env("AWS_DYNAMODB") }`, `dynamodb = env("AWS_DYNAMODB"), sqs = env("AWS_SQS") }`).
		Replace(string(text)) + fmt.Sprintf("trigger \"sqs\" {\n  queue_url = %q\n  region = \"us-east-1\"\n}\n", queue)
	if err := os.WriteFile(w.file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["WORLD_REMOTE"], w.env["AWS_SQS"] = url, cloud.Endpoints()["sqs"]
	w.serve()
	w.contact()
	const tag = "dev_us-east-1/research/1.0"
	began := time.Now()
	w.push(tag)
	cloud.Send(queue, `{"version":"0","id":"1","detail-type":"CodeCommit Repository State Change","source":"aws.codecommit","account":"111122223333",
		"time":"2026-01-01T00:00:00Z","region":"us-east-1","resources":["arn:aws:codecommit:us-east-1:111122223333:infra"],
		"detail":{"event":"referenceCreated","repositoryName":"infra","repositoryId":"x","referenceType":"tag","referenceName":"`+tag+`","referenceFullName":"refs/tags/`+tag+`"}}`)
	cloud.Send(queue, "nonsense")
	w.until(tag, release.Succeeded)
	t.Logf("from push to success: %s", time.Since(began))
	w.await("an empty queue", func() bool { return len(cloud.Queue(queue)) == 0 })
	w.await("a message set aside", func() bool {
		found, _ := os.ReadDir(w.dir + "/data/set-aside")
		return len(found) == 1
	})
}

// ownAWS is the SDK as somebody with all rights would use it by hand.
func ownAWS(cloud *testkit.AWS) aws.Config {
	id, secret := cloud.Service()
	return aws.Config{Region: "us-east-1", Credentials: sdkcredentials.NewStaticCredentialsProvider(id, secret, "")}
}

func suspendVersioning(t *testing.T, cloud *testkit.AWS) {
	c := s3.NewFromConfig(ownAWS(cloud), func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String(cloud.Endpoints()["s3"]), true
	})
	_, err := c.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: aws.String("org-awesome-tf-state-dev"),
		VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusSuspended}})
	if err != nil {
		t.Fatal(err)
	}
}

func stopRecovery(t *testing.T, cloud *testkit.AWS) {
	c := dynamodb.NewFromConfig(ownAWS(cloud), func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(cloud.Endpoints()["dynamodb"]) })
	_, err := c.UpdateContinuousBackups(t.Context(), &dynamodb.UpdateContinuousBackupsInput{TableName: aws.String("org-awesome-tf-state-lock-prod"),
		PointInTimeRecoverySpecification: &dynamotypes.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(false)}})
	if err != nil {
		t.Fatal(err)
	}
}
