package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
)

// Two targets must never share a state, whatever the repository says.
func TestStatesAreToldApart(t *testing.T) {
	const tfvarAccount = `stack { account = tfvar("${team}.tfvars", "account") }
`
	s3 := func(bucket, key string) string {
		return fmt.Sprintf("backend \"s3\" {\n  bucket = %s\n  key = %s\n  region = region\n}\n", bucket, key)
	}
	two := `repository "apps" { url = "https://git.example.org/apps.git" }
`
	for _, tt := range []struct{ name, src, want string }{
		{"the usual layout", s3(`"b-${env}"`, `"${team}/${env}-${scope}"`), ""},
		{"no team", s3(`"b"`, `"${env}-${scope}"`), "dev_us-east-1/research and dev_us-east-1/risk could share one state: two targets never may; use ${team} in key"},
		{"no scope", s3(`"b"`, `"${env}/${team}"`), "use ${scope} in key"},
		{"region for scope", s3(`"b"`, `"${env}/${team}/${region}"`), "dev_us-east-1/research and dev_global/research could share"},
		{"parts that run together", s3(`"b"`, `"${replace(scope, "-", "")}${team == "risk" ? "" : ""}"`), "could share"},
		{"two repositories", two + s3(`"b"`, `"${team}/${env}-${scope}"`), "of repository infra and dev_us-east-1/research of repository apps could share one state"},
		{"two repositories told apart", two + s3(`"b"`, `"${repository}/${team}/${env}-${scope}"`), ""},
		{"two repositories, embedded", two, ""},
		{"account in the bucket alone", tfvarAccount + s3(`"b-${account}"`, `"${env}-${scope}"`), "use ${team} in key"},
		{"account in bucket, rest in key", tfvarAccount + s3(`"b-${account}"`, `"${team}/${env}-${scope}"`), ""},
		{"account before the rest", tfvarAccount + s3(`"b"`, `"${account}/${team}/${env}-${scope}"`), ""},
		{"account may look like a team", tfvarAccount + s3(`"b"`, `"${env}-${scope}/${team == "risk" ? account : "111122223333"}"`), "could share"},
		{"account through a function", tfvarAccount + s3(`"b"`, `"${env}-${scope}-${team}-${replace(account, "1", "x")}"`), "could share"},
		{"account in a condition", tfvarAccount + s3(`"b"`, `account == "111122223333" ? "x" : "${team}/${env}-${scope}"`), "could share"},
		{"known accounts", `stack { account = team == "risk" ? "111122223333" : "444455556666" }
` + s3(`"b-${account}"`, `"${env}-${scope}"`), ""},
		{"key from the repository", s3(`"b"`, `tfvar("${team}.tfvars", "key")`), "could share"},
		{"local", `backend "local" { path = "s/${env}/${scope}/${team}/x.tfstate" }`, ""},
		{"local in one folder", `backend "local" { path = "s/${env}/${scope}/${team}.tfstate" }`, "lie in one folder"},
		{"local beneath another", `backend "local" { path = team == "risk" ? "s/${env}/${scope}/x" : "s/${env}/${scope}/${team}/x" }`, "lie in one folder"},
		{"local without team", `backend "local" { path = "s/${env}/${scope}/./x" }`, "use ${team} in path"},
		{"local with nothing", `backend "local" {}`, ""},
		{"other type", `backend "http" { address = "https://states.example.org/${env}/${scope}/${team}" }`, ""},
		{"other type, one place", `backend "http" { address = "https://states.example.org/${env}/${scope}" }`, "use ${team} in address"},
		{"unknown type", `backend "own" { where = "${env}/${scope}/${team}" }`, ""},
		{"unknown type, one place", `backend "own" { where = "x" }`, "could share"},
		{"nothing at all", `backend "own" {}`, "could share"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("waymark.hcl", []byte(minimal+tt.src), nil)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// An environment's name may run into the Region's in the key layout that the
// embedded backend has.
func TestEmbeddedStatesThatRunTogether(t *testing.T) {
	_, err := config.Parse("waymark.hcl", []byte(`
repository "infra" { url = "https://git.example.org/infra.git" }
teams = ["a"]
environment "x" { regions = ["us-gov-west-1"] }
environment "x-us" { regions = ["gov-west-1"] }
`), nil)
	if err == nil || !strings.Contains(err.Error(), "x_us-gov-west-1/a and x-us_gov-west-1/a could share one state") {
		t.Errorf("got %v", err)
	}
}

// A configuration of 6,000 targets, each of them evaluated and told apart.
func BenchmarkParseManyTargets(bench *testing.B) {
	var b strings.Builder
	b.WriteString("repository \"infra\" { url = \"https://git.example.org/infra.git\" }\nglobal_region = \"us-east-1\"\nteams = [")
	for i := range 300 {
		fmt.Fprintf(&b, "\"team%d\", ", i)
	}
	b.WriteString("]\n")
	for i := range 4 {
		fmt.Fprintf(&b, "environment \"env%d\" { regions = [\"us-east-1\", \"eu-central-1\", \"ap-southeast-1\", \"us-west-2\"] }\n", i)
	}
	b.WriteString(`stack {
  account   = tfvar("environments/${env}/${team}/variables.tfvars", "account")
  var_files = ["environments/${env}/${team}/variables.tfvars"]
  variables = { env = env, region = region }
  module    = scope == "global" ? "module.global" : "module.regional"
}
backend "s3" {
  bucket = "b-${account}"
  key    = "${account}/${team}/${env}-${scope}"
}`)
	for bench.Loop() {
		if _, err := config.Parse("waymark.hcl", []byte(b.String()), nil); err != nil {
			bench.Fatal(err)
		}
	}
}
