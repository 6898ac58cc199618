package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// engineEndpoints returns the backend arguments that lead an engine to the kit.
// Terraform 1.5 names them differently.
func engineEndpoints(a *AWS, engine string) string {
	e := a.Endpoints()
	if engine == "terraform-1.5" {
		return fmt.Sprintf("endpoint = %q\ndynamodb_endpoint = %q\nsts_endpoint = %q\nforce_path_style = true\n", e["s3"], e["dynamodb"], e["sts"])
	}
	return fmt.Sprintf("endpoints = { s3 = %q, dynamodb = %q, sts = %q }\nuse_path_style = true\n", e["s3"], e["dynamodb"], e["sts"])
}

// statePolicy lets a session reach one state and its locks.
func statePolicy(key string) string {
	return strings.ReplaceAll(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::states/KEY"},
		{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws:s3:::states/KEY.tflock"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::states","Condition":{"StringEqualsIfExists":{"s3:prefix":["KEY","env:/"]}}},
		{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:PutItem","dynamodb:DeleteItem"],"Resource":"arn:aws:dynamodb:us-east-1:111122223333:table/locks",
			"Condition":{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["states/KEY","states/KEY-md5"]}}}]}`, "KEY", key)
}

// runEngine runs an engine with a session's keys in a folder of its own whose
// state is at key, until one command fails.
func runEngine(t *testing.T, a *AWS, engine, key, lock string, k *types.Credentials) (output string, err error) {
	t.Helper()
	dir := t.TempDir()
	code := fmt.Sprintf("terraform {\n  backend \"s3\" {\n%s%s\nbucket = \"states\"\nkey = %q\nregion = \"us-east-1\"\n  }\n}\nresource \"terraform_data\" \"t\" {\n  input = \"hello\"\n}\n",
		engineEndpoints(a, engine), lock, key)
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-input=false", "-no-color"}, {"apply", "-auto-approve", "-input=false", "-no-color"}} {
		cmd := exec.Command(Tool(t, engine), args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true",
			"AWS_ACCESS_KEY_ID=" + *k.AccessKeyId, "AWS_SECRET_ACCESS_KEY=" + *k.SecretAccessKey, "AWS_SESSION_TOKEN=" + *k.SessionToken}
		out, err := cmd.CombinedOutput()
		output += string(out)
		if err != nil {
			return output, fmt.Errorf("%s %s: %w", engine, args[0], err)
		}
	}
	return output, nil
}

// TestAWSServesEngines has real engines keep state and locks in the kit, each
// with a session that reaches its own state alone.
func TestAWSServesEngines(t *testing.T) {
	const table, file = "dynamodb_table = \"locks\"\n", "use_lockfile = true\n"
	for _, engine := range []string{"tofu", "terraform", "terraform-1.5"} {
		locks := map[string]string{"table": table}
		if engine != "terraform-1.5" {
			locks["lockfile"], locks["both"] = file, table+file
		}
		for name, lock := range locks {
			t.Run(engine+" "+name, func(t *testing.T) {
				Tool(t, engine)
				a := StartAWS(t)
				a.CreateBucket("states", "", "")
				a.CreateTable("locks", "", "")
				a.Role(runRole, RoleOptions{Trusts: []string{userARN}})
				k := assumeRole(t, serviceSTS(a), &sts.AssumeRoleInput{RoleArn: aws.String(runRole), RoleSessionName: aws.String("run"), Policy: aws.String(statePolicy("one"))})
				if out, err := runEngine(t, a, engine, "one", lock, k); err != nil {
					t.Fatalf("%v\n%s\n%s", err, out, refused(a))
				}
				if state, ok := a.Object("states", "one"); !ok || !strings.Contains(string(state), "hello") || !slices.Equal(a.Objects("states"), []string{"one"}) {
					t.Errorf("the bucket has %q, the state is %s", a.Objects("states"), state)
				}
				checkLocked(t, a, name)
				if r := refused(a); r != "" {
					t.Errorf("refused on the way: %s", r)
				}
				a.PutObject("states", "two", []byte(`{"version":4,"serial":1,"lineage":"x","outputs":{},"resources":[]}`))
				out, err := runEngine(t, a, engine, "two", lock, k)
				if err == nil || !strings.Contains(out, "403") || !strings.Contains(refused(a), "arn:aws:s3:::states/two") {
					t.Errorf("another's state: %v\n%s\nrefused: %s", err, out, refused(a))
				}
			})
		}
	}
}

// checkLocked fails the test unless each kind of lock was taken and freed.
func checkLocked(t *testing.T, a *AWS, kind string) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range a.Requests() {
		if r.Allowed {
			seen[r.Service+" "+r.Operation+" "+r.Resource[strings.LastIndexByte(r.Resource, ':')+1:]]++
		}
	}
	want := map[string][]string{
		"table":    {"dynamodb PutItem table/locks", "dynamodb DeleteItem table/locks"},
		"lockfile": {"s3 PutObject states/one.tflock", "s3 DeleteObject states/one.tflock"},
	}
	want["both"] = append(want["table"], want["lockfile"]...)
	for _, call := range want[kind] {
		if seen[call] == 0 {
			t.Errorf("%s was not called; calls: %v", call, seen)
		}
	}
}

// refused returns the requests that policies did not let through.
func refused(a *AWS) string {
	var out []string
	for _, r := range a.Requests() {
		if !r.Allowed {
			out = append(out, r.Operation+" ("+r.Service+":"+r.Action+") "+r.Resource+" "+r.Err)
		}
	}
	return strings.Join(out, "\n")
}
