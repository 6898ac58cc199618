package credentials_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/credentials"
	"github.com/waymark-cd/waymark/release"
)

const (
	runRole   = "arn:aws:iam::111122223333:role/WaymarkRun"
	applyRole = "arn:aws:iam::444455556666:role/InfraBuildRole"
	userARN   = "arn:aws:iam::111122223333:user/waymark"
	stateKey  = "research/dev-us-east-1/terraform.tfstate"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request is one of a usual run; edits change it.
func request(edits ...func(*credentials.Request)) credentials.Request {
	r := credentials.Request{
		RunID: 7, Tag: "dev_us-east-1/research/1.0+a", Target: release.Target{Env: "dev", Scope: "us-east-1", Team: "research"},
		Account: "444455556666", Region: "us-east-1", Phase: release.PhaseApply, RunRole: runRole,
		Backend: release.BackendSpec{Type: "s3", Values: map[string]string{"bucket": "states-dev", "key": stateKey, "region": "eu-central-1"}},
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

// with sets arguments of the backend, given as name, value, name, value.
func with(pairs ...string) func(*credentials.Request) {
	return func(r *credentials.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Backend.Values[pairs[i]] = pairs[i+1]
		}
	}
}

func planning(r *credentials.Request) { r.Phase = release.PhasePlan }

const (
	opening   = `{"Version":"2012-10-17","Statement":[`
	object    = `{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::states-dev/` + stateKey + `"}`
	listing   = `{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::states-dev","Condition":{"StringEqualsIfExists":{"s3:prefix":["` + stateKey + `","env:/"]}}}`
	anyRole   = `{"Effect":"Allow","Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],"Resource":"arn:aws:iam::444455556666:role/*"}`
	nothing   = opening + `{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	anyObject = opening + object + "," + listing + ","
)

// encrypted is the statement of an object with a key.
func encrypted(actions, key string) string {
	return `{"Effect":"Allow","Action":[` + actions + `],"Resource":["arn:aws:s3:::states-dev/` + stateKey + `","` + key + `"]},`
}

func TestASessionReachesItsOwnStateAlone(t *testing.T) {
	for name, c := range map[string]struct {
		edits []func(*credentials.Request)
		want  string
	}{
		"apply": {nil, anyObject + anyRole + "]}"},
		"plan reads": {[]func(*credentials.Request){planning},
			opening + strings.Replace(object, `["s3:GetObject","s3:PutObject"]`, `"s3:GetObject"`, 1) + "," + listing + "," + anyRole + "]}"},
		"lockfile": {[]func(*credentials.Request){with("use_lockfile", "true")},
			opening + object + `,{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws:s3:::states-dev/` + stateKey + `.tflock"},` +
				strings.Replace(listing, `","env:/"`, `","`+stateKey+`.tflock","env:/"`, 1) + "," + anyRole + "]}"},
		"no lockfile": {[]func(*credentials.Request){with("use_lockfile", "false")}, anyObject + anyRole + "]}"},
		"table": {[]func(*credentials.Request){with("dynamodb_table", "locks-dev")},
			anyObject + `{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:PutItem","dynamodb:DeleteItem"],"Resource":"arn:aws:dynamodb:eu-central-1:111122223333:table/locks-dev",` +
				`"Condition":{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["states-dev/` + stateKey + `","states-dev/` + stateKey + `-md5"]}}},` + anyRole + "]}"},
		"prefix of workspaces": {[]func(*credentials.Request){with("workspace_key_prefix", "ws")}, strings.Replace(anyObject, "env:/", "ws/", 1) + anyRole + "]}"},
		"key by id": {[]func(*credentials.Request){with("kms_key_id", "1234-ab")},
			opening + encrypted(`"s3:GetObject","s3:PutObject","kms:Decrypt","kms:GenerateDataKey"`, "arn:aws:kms:eu-central-1:111122223333:key/1234-ab") + listing + "," + anyRole + "]}"},
		"key by ARN, plan": {[]func(*credentials.Request){planning, with("kms_key_id", "arn:aws:kms:us-east-1:777788889999:key/mrk-1")},
			opening + encrypted(`"s3:GetObject","kms:Decrypt"`, "arn:aws:kms:us-east-1:777788889999:key/mrk-1") + listing + "," + anyRole + "]}"},
		"key by alias": {[]func(*credentials.Request){with("kms_key_id", "alias/states")},
			anyObject + `{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"arn:aws:kms:eu-central-1:111122223333:key/*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/states"}}},` + anyRole + "]}"},
		"key by alias's ARN": {[]func(*credentials.Request){with("kms_key_id", "arn:aws:kms:us-east-1:777788889999:alias/states")},
			anyObject + `{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"arn:aws:kms:us-east-1:777788889999:key/*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/states"}}},` + anyRole + "]}"},
		"one role": {[]func(*credentials.Request){func(r *credentials.Request) { r.AccountRole = applyRole }},
			anyObject + strings.Replace(anyRole, "role/*", "role/InfraBuildRole", 1) + "]}"},
		"no account": {[]func(*credentials.Request){func(r *credentials.Request) { r.Account = "" }}, strings.TrimSuffix(anyObject, ",") + "]}"},
		"partition": {[]func(*credentials.Request){func(r *credentials.Request) { r.RunRole = "arn:aws-us-gov:iam::111122223333:role/a/WaymarkRun" }},
			strings.ReplaceAll(anyObject+anyRole+"]}", "arn:aws:", "arn:aws-us-gov:")},
		"Region of the run": {[]func(*credentials.Request){with("region", "", "kms_key_id", "k")},
			opening + encrypted(`"s3:GetObject","s3:PutObject","kms:Decrypt","kms:GenerateDataKey"`, "arn:aws:kms:us-east-1:111122223333:key/k") + listing + "," + anyRole + "]}"},
		"another backend": {[]func(*credentials.Request){func(r *credentials.Request) { r.Backend.Type = "local" }}, opening + anyRole + "]}"},
		"nothing at all":  {[]func(*credentials.Request){func(r *credentials.Request) { r.Backend.Type, r.Account = "local", "" }}, nothing},
	} {
		got, err := credentials.SessionPolicy(request(c.edits...))
		if err != nil || got != c.want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, c.want)
		}
	}
}

// long is a name of n characters.
func long(n int) string { return strings.Repeat("x", n) }

// longest has every name as long as it can be in the usual layout.
func longest(r *credentials.Request) {
	r.Target = release.Target{Env: long(32), Scope: "ap-southeast-1", Team: long(32)}
	r.Region = "ap-southeast-1"
	with("bucket", long(63), "key", r.Target.Team+"/"+r.Target.Env+"-"+r.Target.Scope+"/terraform.tfstate", "region", "ap-southeast-1",
		"use_lockfile", "true", "dynamodb_table", long(255))(r)
}

func TestTheLongestNamesFit(t *testing.T) {
	for name, edit := range map[string]func(*credentials.Request){
		"with a table":   func(*credentials.Request) {},
		"with one role":  func(r *credentials.Request) { r.AccountRole = "arn:aws:iam::444455556666:role/" + long(64) },
		"with a key too": with("kms_key_id", "arn:aws:kms:ap-southeast-1:111122223333:key/mrk-"+long(32)),
	} {
		policy, err := credentials.SessionPolicy(request(longest, edit))
		if err != nil || len(policy) > 2048 {
			t.Errorf("%s: %d characters, %v", name, len(policy), err)
		}
		t.Logf("%s: %d characters", name, len(policy))
	}
	_, err := credentials.SessionPolicy(request(longest, with("key", long(1024))))
	if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), "STS takes 2048: shorten the backend's key (1024), its bucket (63), its dynamodb_table (255)") {
		t.Errorf("got %v", err)
	}
}

func TestARequestThatNoPolicyCanHoldIsInvalid(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*credentials.Request)
		says string
	}{
		"no role":          {func(r *credentials.Request) { r.RunRole = "" }, "no run_role is configured"},
		"no ARN":           {func(r *credentials.Request) { r.RunRole = "WaymarkRun" }, `"WaymarkRun" is no ARN of a role`},
		"a user":           {func(r *credentials.Request) { r.RunRole = userARN }, "is no ARN of a role"},
		"every role":       {func(r *credentials.Request) { r.AccountRole = "arn:aws:iam::444455556666:role/*" }, "is no ARN of a role"},
		"every account":    {func(r *credentials.Request) { r.Account = "*" }, `account "*" is not twelve digits`},
		"an account's end": {func(r *credentials.Request) { r.Account = "444455556666\n" }, "is not twelve digits"},
		"a Region":         {func(r *credentials.Request) { r.Region = "us-east-1.evil.example" }, "is no Region"},
		"no phase":         {func(r *credentials.Request) { r.Phase = "" }, `phase "": want "plan" or "apply"`},
		"no bucket":        {with("bucket", ""), "bucket is not set"},
		"no key":           {with("key", ""), "key is not set"},
		"every key":        {with("key", "research/*"), `key "research/*" holds '*', which policies read as a pattern`},
		"a variable":       {with("bucket", "${aws:username}"), "holds '$'"},
		"every table":      {with("dynamodb_table", "?"), "holds '?'"},
		"a key of S3":      {with("kms_key_id", "arn:aws:s3:::states"), "neither a key's id nor an ARN of KMS"},
		"nowhere":          {func(r *credentials.Request) { with("region", "", "dynamodb_table", "locks")(r); r.Region = "" }, "region is not set"},
	} {
		_, err := credentials.SessionPolicy(request(c.edit))
		if !errors.Is(err, release.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
