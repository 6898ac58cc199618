package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

const (
	serviceARN = "arn:aws:iam::" + tooling + ":role/Waymark"
	runRole    = "arn:aws:iam::" + tooling + ":role/WaymarkRun"
)

func buildRole(account string) string { return "arn:aws:iam::" + account + ":role/InfraBuildRole" }

// accounts is AWS with the roles of examples/aws: those of the tooling account,
// and InfraBuildRole in three workload accounts.
type accounts struct {
	*testkit.AWS
	t *testing.T
}

func newAccounts(t *testing.T) accounts {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the stand-in for AWS")
	}
	a := accounts{testkit.StartAWS(t), t}
	a.Role(runRole, testkit.RoleOptions{TrustPolicy: a.policy("run-trust.json"), Policy: a.policy("run.json")})
	trust := a.policy("workload-trust.json")
	a.Role(buildRole(research), testkit.RoleOptions{TrustPolicy: trust})
	a.Role(buildRole(risk), testkit.RoleOptions{TrustPolicy: replaced(t, trust, `"research"`, `"risk"`)})
	a.Role(buildRole(production), testkit.RoleOptions{TrustPolicy: replaced(t, trust, `"dev"`, `"prod"`)})
	return a
}

func (a accounts) policy(name string) string {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join("aws", "policies", name))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

func replaced(t *testing.T, s, old, with string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("there is no %s in %s", old, s)
	}
	return strings.ReplaceAll(s, old, with)
}

// sts is a client with these keys.
func (a accounts) sts(id, secret, token string) *sts.Client {
	return sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: aws.String(a.Endpoints()["sts"]), RetryMaxAttempts: 1,
		Credentials: sdkcredentials.NewStaticCredentialsProvider(id, secret, token)})
}

// open opens the session of a run as the service does, with the service's policy.
func (a accounts) open(r credentials.Request) (credentials.Session, error) {
	a.t.Helper()
	id, secret := a.Principal(serviceARN, a.policy("service.json"))
	a.t.Setenv("AWS_ACCESS_KEY_ID", id)
	a.t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	a.t.Setenv("AWS_SESSION_TOKEN", "")
	settings := credentials.Settings{Region: "us-east-1", Endpoints: a.Endpoints()}
	cfg, err := credentials.Load(a.t.Context(), settings)
	if err != nil {
		a.t.Fatal(err)
	}
	grant, err := credentials.New(cfg, settings).Open(a.t.Context(), r)
	return grant.Run, err
}

// request is that of a run for research in dev.
func request() credentials.Request {
	return credentials.Request{RunID: 7, Tag: "dev_us-east-1/research/1.0", Target: release.Target{Env: "dev", Scope: "us-east-1", Team: "research"},
		Account: research, Region: "us-east-1", Phase: release.PhaseApply, RunRole: runRole, ExternalID: externalID, SourceIdentity: "waymark-run-7",
		Lifetime: 30 * time.Minute, Backend: release.BackendSpec{Type: "s3", Values: map[string]string{"bucket": "example-tf-state-dev",
			"key": "research/dev-us-east-1/terraform.tfstate", "region": "us-east-1", "dynamodb_table": "example-tf-state-lock-dev"}}}
}

// What the service sends is what the run role's trust policy asks for, and
// nothing else gets in.
func TestTheRunRoleTrustsTheServiceAlone(t *testing.T) {
	lock := request() // as the service asks to look at a lock
	lock.RunID, lock.Tag, lock.Phase, lock.SourceIdentity = 0, "", release.PhasePlan, "waymark-run-0"
	for what, r := range map[string]credentials.Request{"a run": request(), "a look at a lock": lock} {
		if _, err := newAccounts(t).open(r); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, change := range map[string]func(*credentials.Request){
		"another external id":     func(r *credentials.Request) { r.ExternalID = "example" },
		"no external id":          func(r *credentials.Request) { r.ExternalID = "" },
		"no source identity":      func(r *credentials.Request) { r.SourceIdentity = "" },
		"another source identity": func(r *credentials.Request) { r.SourceIdentity = "somebody" },
		"an unknown environment":  func(r *credentials.Request) { r.Target.Env = "test" },
		"no team":                 func(r *credentials.Request) { r.Target.Team = "" },
	} {
		a, r := newAccounts(t), request()
		change(&r)
		if s, err := a.open(r); err == nil {
			t.Errorf("with %s: %v", what, s)
		}
	}
	a := newAccounts(t)
	id, secret := a.Principal("arn:aws:iam::" + tooling + ":user/somebody")
	if _, err := a.sts(id, secret, "").AssumeRole(t.Context(), assume(runRole, "dev", "research")); err == nil {
		t.Error("somebody else gets a session of the run role")
	}
}

// assume asks for a role as the service does, without a session policy.
func assume(role, env, team string) *sts.AssumeRoleInput {
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	return &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("waymark-7"), ExternalId: aws.String(externalID),
		SourceIdentity: aws.String("waymark-run-7"), Tags: []types.Tag{tag("env", env), tag("scope", "us-east-1"), tag("team", team), tag("run", "7")}}
}

// unnarrowed is a session of the run role that has no policy of its own: what is
// refused to it is refused by the role, whatever the service does.
func (a accounts) unnarrowed(env, team string) *types.Credentials {
	a.t.Helper()
	id, secret := a.Principal(serviceARN, a.policy("service.json"))
	out, err := a.sts(id, secret, "").AssumeRole(a.t.Context(), assume(runRole, env, team))
	if err != nil {
		a.t.Fatal(err)
	}
	return out.Credentials
}

// A run's session comes into its own account and into no other, each time as a
// provider's assume_role asks.
func TestARunReachesItsOwnAccountAlone(t *testing.T) {
	for _, c := range []struct {
		env, team, account string
		want               bool
	}{
		{"dev", "research", research, true},
		{"dev", "risk", risk, true},
		{"prod", "research", production, true},
		{"dev", "research", risk, false},           // another team: the account refuses
		{"dev", "research", production, false},     // another environment: both refuse
		{"prod", "research", research, false},      // the same, the other way round
		{"dev", "research", "333333333333", false}, // an account that nobody listed
	} {
		a := newAccounts(t)
		a.Role(buildRole("333333333333"), testkit.RoleOptions{Trusts: []string{runRole}})
		k := a.unnarrowed(c.env, c.team)
		_, err := a.sts(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken).AssumeRole(t.Context(),
			&sts.AssumeRoleInput{RoleArn: aws.String(buildRole(c.account)), RoleSessionName: aws.String("infra-" + c.env + "-" + c.team)})
		if (err == nil) != c.want {
			t.Errorf("%s of %s into %s: %v", c.env, c.team, c.account, err)
		}
	}
}

// With the session policy that the service sends, a run also reaches its own
// account still, and the service reaches none.
func TestTheServiceItselfReachesNoAccount(t *testing.T) {
	a := newAccounts(t)
	s, err := a.open(request())
	if err != nil {
		t.Fatal(err)
	}
	in := &sts.AssumeRoleInput{RoleArn: aws.String(buildRole(research)), RoleSessionName: aws.String("infra-dev-research")}
	if _, err := a.sts(s.AccessKeyID, s.SecretAccessKey, s.SessionToken).AssumeRole(t.Context(), in); err != nil {
		t.Errorf("the run's session: %v", err)
	}
	id, secret := a.Principal(serviceARN, a.policy("service.json"))
	if _, err := a.sts(id, secret, "").AssumeRole(t.Context(), in); err == nil {
		t.Error("the service's own identity gets into a workload account")
	}
}

// The run role's policy alone keeps a run to its own state.
func TestARunReachesItsOwnStateAlone(t *testing.T) {
	a := newAccounts(t)
	states := map[string]string{"example-tf-state-dev": "research/dev-us-east-1/terraform.tfstate", "example-tf-state-prod": "research/prod-us-east-1/terraform.tfstate"}
	for bucket, key := range states {
		a.CreateBucket(bucket, "us-east-1", tooling)
		a.PutObject(bucket, key, []byte("{}"))
	}
	a.PutObject("example-tf-state-dev", "risk/dev-us-east-1/terraform.tfstate", []byte("{}"))
	a.PutObject("example-tf-state-dev", "research/dev-eu-central-1/terraform.tfstate", []byte("{}"))
	k := a.unnarrowed("dev", "research")
	client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: aws.String(a.Endpoints()["s3"]), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: sdkcredentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)})
	for _, c := range []struct {
		bucket, key string
		want        bool
	}{
		{"example-tf-state-dev", "research/dev-us-east-1/terraform.tfstate", true},
		{"example-tf-state-dev", "risk/dev-us-east-1/terraform.tfstate", false},
		{"example-tf-state-dev", "research/dev-eu-central-1/terraform.tfstate", false},
		{"example-tf-state-prod", "research/prod-us-east-1/terraform.tfstate", false},
	} {
		_, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &c.bucket, Key: &c.key})
		if (err == nil) != c.want || err != nil && !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s/%s: %v", c.bucket, c.key, err)
		}
	}
	list := func(prefix *string) error {
		_, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("example-tf-state-dev"), Prefix: prefix})
		return err
	}
	if err := list(aws.String("env:/")); err != nil {
		t.Errorf("as init does: %v", err)
	}
	if list(aws.String("risk/")) == nil {
		t.Error("a run lists the states of another team")
	}
}

// The session policy that the page on AWS shows is the one that the service sends.
func TestThePageShowsTheSessionPolicy(t *testing.T) {
	document, err := credentials.SessionPolicy(request())
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "docs", "aws.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "```json\n" + indented(t, document) + "```\n"; !strings.Contains(string(page), want) {
		t.Errorf("docs/aws.md does not show\n%s", want)
	}
}
