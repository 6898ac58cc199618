package config_test

import (
	"reflect"
	"strings"
	"testing"
)

const seedBackend = `
backend "s3" {
  bucket         = "states-${env}"
  key            = "${team}/${env}-${scope}/terraform.tfstate"
  dynamodb_table = "locks-${env}"
%s
}
`

func TestResolveAWS(t *testing.T) {
	for name, c := range map[string]struct {
		extra, backend string
		want           map[string]string // beyond bucket, key and table
		lock           string
	}{
		"nothing":     {"", "", nil, "locks-dev"},
		"a Region":    {`aws { region = "eu-west-1" }`, "", map[string]string{"region": "eu-west-1"}, "locks-dev"},
		"another one": {`aws { region = "eu-west-1" }`, `region = region`, map[string]string{"region": "us-east-1"}, "locks-dev"},
		"an emulator": {`aws { endpoints = { s3 = "http://localhost:9000", sqs = "http://localhost:1" } }`, "",
			map[string]string{"endpoints": `{"s3":"http://localhost:9000"}`, "use_path_style": "true"}, "locks-dev"},
		"a private address": {`aws { endpoints = { s3 = "https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", sts = "https://sts.us-east-1.amazonaws.com" } }`, "",
			map[string]string{"endpoints": `{"s3":"https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com","sts":"https://sts.us-east-1.amazonaws.com"}`}, "locks-dev"},
		"addresses of its own": {`aws { endpoints = { s3 = "http://localhost:9000" } }`, `endpoint = "http://localhost:9001"`,
			map[string]string{"endpoint": "http://localhost:9001"}, "locks-dev"},
		"both locks": {"", "use_lockfile = true", map[string]string{"use_lockfile": "true"}, "locks-dev and risk/dev-us-east-1/terraform.tfstate.tflock"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := resolve(t, c.extra+strings.Replace(seedBackend, "%s", c.backend, 1), "dev_us-east-1/risk/1.0", files{})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"bucket": "states-dev", "key": "risk/dev-us-east-1/terraform.tfstate", "dynamodb_table": "locks-dev"}
			for k, v := range c.want {
				want[k] = v
			}
			if !reflect.DeepEqual(d.Backend.Values, want) {
				t.Errorf("got  %q\nwant %q", d.Backend.Values, want)
			}
			if d.BackendLocation.Lock != c.lock {
				t.Errorf("the lock is %q", d.BackendLocation.Lock)
			}
		})
	}
}

func TestCellsOfARegion(t *testing.T) {
	d, err := resolve(t, `backend "s3" {
  bucket = "states-${short_region(region)}-${env}"
  key    = "${repository}/${team}/${env}-${scope}/terraform.tfstate"
  region = region
}`, "dev_eu-central-1/risk/1.0", files{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Backend.Values["bucket"] != "states-euc1-dev" || d.Backend.Values["region"] != "eu-central-1" {
		t.Errorf("got %q", d.Backend.Values)
	}
}

func TestCodeCommitIsRecognised(t *testing.T) {
	for _, c := range []struct{ body, region, name string }{
		{`url = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/infra"`, "eu-west-1", "infra"},
		{"url = \"http://localhost:1/v1/repos/mine\"\n  codecommit = \"us-east-1\"", "us-east-1", "mine"},
		{"url = \"https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/infra\"\n  username = \"x\"\n  password = \"y\"", "", ""},
		{`url = "https://git.example.org/infra.git"`, "", ""},
		{`url = "https://git-codecommit.eu-west-1.amazonaws.com.example.org/v1/repos/infra"`, "", ""},
	} {
		r, _ := parse(t, minimal+"repository \"other\" {\n  "+c.body+"\n}\n").Repository("other")
		if r.CodeCommit != c.region || r.CodeCommitName() != c.name {
			t.Errorf("%s: got %q, %q", c.body, r.CodeCommit, r.CodeCommitName())
		}
	}
}

func TestQueueTellsItsRegion(t *testing.T) {
	const repository = `repository "cc" { url = "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/infra" }
`
	for _, c := range []struct{ trigger, region string }{
		{`trigger "sqs" { queue_url = "https://sqs.eu-west-1.amazonaws.com/111122223333/q" }`, "eu-west-1"},
		{"trigger \"sqs\" {\n  queue_url = \"http://localhost:1/q\"\n  region = \"us-east-1\"\n}", "us-east-1"},
		{`trigger "sqs" { queue_url = "http://localhost:1/q" }` + "\n" + `aws { region = "us-west-2" }`, "us-west-2"},
	} {
		if got := parse(t, minimal+repository+c.trigger).Triggers[0].Region; got != c.region {
			t.Errorf("%s: got %q", c.trigger, got)
		}
	}
}

func TestKnownBackends(t *testing.T) {
	known, late, err := parse(t, minimal+strings.Replace(seedBackend, "%s", "", 1)+`
credentials { run_role = "arn:aws:iam::111122223333:role/R" }`).KnownBackends()
	if err != nil || len(late) > 0 || len(known) == 0 {
		t.Fatalf("%d known, late %v, %v", len(known), late, err)
	}
	for _, k := range known {
		if k.Owner != "111122223333" || k.Backend.Values["bucket"] != "states-"+k.Target.Env ||
			k.Backend.Values["key"] != k.Target.Team+"/"+k.Target.Env+"-"+k.Target.Scope+"/terraform.tfstate" {
			t.Errorf("got %+v", k)
		}
	}
	_, late, err = parse(t, minimal+strings.Replace(strings.Replace(seedBackend, "%s", "", 1), "states-", "states-${account}-", 1)+`
stack { account = tfvar("v.tfvars", "account") }`).KnownBackends()
	if err != nil || len(late) != len(known) {
		t.Errorf("late %v, %v", late, err)
	}
}
