package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// Each case is a file that replaces or extends the minimal one, and what must
// be said of it.
func TestProblems(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"unknown attribute", minimal + `server { lisen = "x" }`, `:6:10: there is no attribute "lisen" here: did you mean "listen"?`},
		{"unknown block", minimal + `repositry "x" {}`, `:6:1: there is no block "repositry" here: did you mean "repository"?`},
		{"block as attribute", minimal + `engine = {}`, `:6:1: engine is a block, not an attribute: leave out the equals sign`},
		{"attribute as block", minimal + `global_region {}`, `global_region is an attribute, not a block`},
		{"attribute twice", minimal + `teams = []`, `:6:1: attribute redefined`},
		{"block twice", minimal + "engine {}\nengine {}", `:7:1: engine is there twice: the first is on line 6`},
		{"label twice", minimal + `environment "dev" { regions = ["us-east-1"] }`, `environment "dev" is there twice: the first is on line 5`},
		{"two backends", minimal + "backend \"local\" {}\nbackend \"s3\" {}", `:7:1: backend is there twice`},
		{"no label", minimal + `environment { regions = [] }`, `environment takes one name: write environment "name" { ... }`},
		{"label not wanted", minimal + `server "x" {}`, `server takes no name: write server { ... }`},
		{"missing required", minimal + `repository "x" {}`, `:6:1: repository.x.url is missing: write url = "ssh://`},
		{"webhook without secret", minimal + `repository "x" {
  url = "https://h/x"
  webhook {}
}`, `:8:3: repository.x.webhook.secret is missing`},
		{"no repository", "teams = [\"a\"]\nenvironment \"dev\" { regions = [\"us-east-1\"] }", `:1:1: there is no repository block`},
		{"wrong type", minimal + `server { max_runs = "many" }`, `server.max_runs must be a whole number from 1 to 1000`},
		{"out of bounds", minimal + `server { max_runs = 0 }`, `server.max_runs must be a whole number from 1 to 1000`},
		{"fraction", minimal + `server { max_runs = 1.5 }`, `server.max_runs must be a whole number`},
		{"huge number", minimal + `server { data_dir = 1e999999999 }`, `server.data_dir is a number out of all bounds`},
		{"large number", minimal + `server { data_dir = 1e99999 }`, `server.data_dir is a number out of all bounds`},
		{"null", minimal + `server { listen = null }`, `server.listen has no value`},
		{"list for string", minimal + `server { listen = ["x"] }`, `server.listen must be a string: it is tuple`},
		{"string for list", minimal + `policy { allowed_providers = "x" }`, `policy.allowed_providers must be a list of strings`},
		{"number in list", minimal + `policy { allowed_providers = [["x"]] }`, `policy.allowed_providers[0] must be a string`},
		{"bad duration", minimal + `engine { timeout = "1 hour" }`, `engine.timeout is no duration: "1 hour": write a number with a unit`},
		{"negative duration", minimal + `engine { timeout = "-1h" }`, `engine.timeout cannot be less than 0s`},
		{"zero poll", minimal + `repository "x" {
  url  = "https://h/x"
  poll = "0s"
}`, `repository.x.poll cannot be less than 10ms`},
		{"bad listen", minimal + `server { listen = "8080" }`, `server.listen is no address: "8080": write host:port`},
		{"bad port", minimal + `server { listen = "127.0.0.1:99999" }`, `server.listen is no address`},
		{"open without token", minimal + `server { listen = "0.0.0.0:80" }`, `:6:10: server.listen "0.0.0.0:80" is open to the network and there is no token: write token = env("WAYMARK_TOKEN")`},
		{"all interfaces without token", minimal + `server { listen = ":8080" }`, `is open to the network`},
		{"open with empty token", minimal + `server {
  listen = "[::]:80"
  token  = ""
}`, `is open to the network`},
		{"unknown engine", minimal + `engine { kind = "pulumi" }`, `engine.kind cannot be "pulumi": known: tofu, terraform`},
		{"bad version", minimal + `engine { version = "newest" }`, `engine.version is no version: "newest"`},
		{"reserved variable", minimal + `engine { env = { TF_VAR_x = "1" } }`, `engine.env cannot set TF_VAR_x`},
		{"bad database", minimal + `server { database = "mysql://u:hunter2@h/d" }`, `server.database is no database: write "sqlite"`},
		{"tilde", minimal + `server { data_dir = "~/waymark" }`, `server.data_dir begins with a tilde`},
		{"region outside grammar", minimal + `environment "x" { regions = ["us-east"] }`, `environment.x.regions[0] cannot be "us-east": write an AWS Region`},
		{"all is reserved", minimal + `environment "x" { regions = ["all"] }`, `environment.x.regions[0] cannot be "all"`},
		{"global is no region", minimal + `environment "x" { regions = ["global"] }`, `it is no Region; set global_region`},
		{"region twice", minimal + `environment "x" { regions = ["us-east-1", "us-east-1"] }`, `environment.x.regions names "us-east-1" twice`},
		{"bad env name", minimal + `environment "Dev_1" { regions = ["us-east-1"] }`, `the name of environment "Dev_1" cannot be "Dev_1": write a lower-case letter`},
		{"bad team", strings.Replace(minimal, `"risk"`, `"Risk"`, 1), `teams[1] cannot be "Risk"`},
		{"no teams", strings.Replace(minimal, `["research", "risk"]`, `[]`, 1), `:3:1: teams is empty`},
		{"approver without a name", minimal + `environment "x" {
  regions   = ["us-east-1"]
  approvals = 1
  approvers = ["group:"]
}`, `environment.x.approvers[0] cannot be "group:": write a user such as "alice@example.org"`},
		{"approvers in one string", minimal + `environment "x" {
  regions   = ["us-east-1"]
  approvals = 1
  approvers = ["alice, bob"]
}`, `environment.x.approvers[0] cannot be "alice, bob": write one user or group per string`},
		{"approvers of nothing", minimal + `environment "x" {
  regions   = ["us-east-1"]
  approvers = ["alice"]
}`, `:8:3: environment "x" has approvers and needs no approvals: write approvals = 1`},
		{"too few approvers for a removal", minimal + `environment "x" {
  regions           = ["us-east-1"]
  destroy           = "allow"
  destroy_approvals = 2
  approvers         = ["alice@example.org"]
}`, `:10:3: environment "x" needs 2 approvals and has approvers for 1`},
		{"too few approvers", minimal + `environment "x" {
  regions   = ["us-east-1"]
  approvals = 2
  approvers = ["alice@example.org", "Alice@example.org"]
}`, `:9:3: environment "x" needs 2 approvals and has approvers for 1: name more people or a group`},
		{"promotes from nowhere", minimal + `environment "prod" {
  regions       = ["us-east-1"]
  promotes_from = "deb"
}`, `:8:3: environment "prod" promotes from "deb", which is no environment: did you mean "dev"? known: dev, prod; or add environment "deb"`},
		{"promotes in a circle", minimal + `environment "a" {
  regions       = ["us-east-1"]
  promotes_from = "b"
}
environment "b" {
  regions       = ["us-east-1"]
  promotes_from = "a"
}`, `:8:3: environments promote in a circle: a from b from a`},
		{"promotes from itself", minimal + `environment "a" {
  regions       = ["us-east-1"]
  promotes_from = "a"
}`, `environments promote in a circle: a from a`},
		{"bad account", minimal + `environment "x" {
  regions  = ["us-east-1"]
  accounts = ["1234"]
}`, `environment.x.accounts[0] cannot be "1234": an account is 12 digits`},
		{"accounts without account", minimal + `environment "x" {
  regions  = ["us-east-1"]
  accounts = ["111122223333"]
}`, `accounts is set, and stack.account is missing`},
		{"account without account", minimal + `credentials { run_role = "arn:aws:iam::${account}:role/X" }`, `:6:42: account is used, and stack.account is missing`},
		{"global without region", strings.Replace(minimal, "global_region", "# global_region", 1) + `stack { module = scope == "global" ? "module.a" : "module.b" }`,
			`global targets are used, and global_region is missing`},
		{"nothing to deploy", "repository \"x\" { url = \"https://h/x\" }\nteams = [\"a\"]\nenvironment \"dev\" { regions = [] }",
			`:3:21: environment "dev" has no Regions, and there is no global_region`},
		{"unset variable", minimal + `server { token = env("UNSET") }`, `:6:18: the environment variable UNSET is unset or empty: set it, or write env("UNSET", "a default")`},
		{"unset variable in a template", minimal + `stack { path = env("UNSET") }`, `:6:16: the environment variable UNSET is unset or empty`},
		{"variable in a value read once", minimal + `server { listen = "${team}:80" }`, `the variable team cannot be used in a value that is read once`},
		{"bare word", minimal + `server { listen = localhost }`, `there is no variable "localhost": put quotes around a string`},
		{"unknown variable", minimal + `stack { path = "x/${teem}" }`, `:6:21: there is no variable "teem": did you mean "team"?`},
		{"unknown variable in a branch", minimal + `stack { module = version == "1" ? "module.${x}" : "" }`, `there is no variable "x"`},
		{"part of a variable", minimal + `stack { path = env.name }`, `the variable env is a string`},
		{"unknown function", minimal + `stack { path = lowr(env) }`, `there is no function "lowr": did you mean "lower"?`},
		{"too few arguments", minimal + `stack { path = lower() }`, `not enough function arguments`},
		{"optional elsewhere", minimal + `stack { path = optional("x") }`, `optional() cannot be used in stack.path: it belongs in stack.var_files`},
		{"tfvar in a value read once", minimal + `server { listen = tfvar("a", "b") }`, `tfvar() cannot be used in a value that is read once`},
		{"tfvar leaves", minimal + `stack { account = tfvar("../x", "b") }`, `climbs with ".."`},
		{"account in account", minimal + `stack { account = account }`, `the variable account cannot be used in stack.account`},
		{"bad constant account", minimal + `stack { account = 12345 }`, `an account is 12 digits`},
		{"string for var_files", minimal + `stack { var_files = "x" }`, `stack.var_files must be a list of strings`},
		{"list for path", minimal + `stack { path = [env] }`, `stack.path must be a string`},
		{"bad variable name", minimal + `stack { variables = { "a b" = 1 } }`, `"a b" is no name of a variable`},
		{"path leaves", minimal + `stack { path = "${team}/../../x" }`, `climbs with ".."`},
		{"absolute var file", minimal + `stack { var_files = ["/etc/${env}"] }`, `the path "/etc/dev" is absolute`},
		{"bad role", minimal + `credentials { run_role = "WaymarkRun" }`, `credentials.run_role of dev_us-east-1/research: it is no role`},
		{"role of nobody", minimal + `credentials { plan_role = "arn:aws:iam::111122223333:role/P" }`, `credentials.plan_role does nothing without run_role`},
		{"another identity for the state", minimal + `credentials { run_role = "arn:aws:iam::111122223333:role/R" }
backend "s3" {
  bucket  = "b"
  key     = "${repository}/${env}/${scope}/${team}"
  profile = "admin"
}`, `:10:3: backend "s3" cannot set profile beside credentials.run_role`},
		{"another identity for the code", minimal + `credentials { run_role = "arn:aws:iam::111122223333:role/R" }
engine { env = { AWS_PROFILE = "admin" } }`, `:7:10: engine.env cannot set AWS_PROFILE beside credentials.run_role`},
		{"bad external id", minimal + `credentials {
  run_role    = "arn:aws:iam::111122223333:role/R"
  external_id = "a b"
}`, `credentials.external_id of dev_us-east-1/research: it is no external id`},
		{"unknown service", minimal + `aws { endpoints = { dynamo = "http://localhost:1" } }`, `aws.endpoints cannot set "dynamo": did you mean "dynamodb"?`},
		{"password in an endpoint", minimal + `aws { endpoints = { s3 = "https://u:hunter2@h" } }`, `aws.endpoints.s3 holds a user name or password`},
		{"queue for nobody", minimal + `trigger "sqs" { queue_url = "https://sqs.us-east-1.amazonaws.com/1/q" }`, `trigger "sqs" is for CodeCommit, and no repository is there`},
		{"queue nowhere", minimal + `trigger "sqs" { queue_url = "http://localhost:9324/q" }`, `the queue's Region is not known`},
		{"codecommit over ssh", minimal + `repository "x" {
  url        = "ssh://h/x"
  codecommit = "us-east-1"
}`, `codecommit does nothing for this repository: its url is reached by ssh`},
		{"codecommit and a password", minimal + `repository "x" {
  url        = "https://h/x"
  codecommit = "us-east-1"
  password   = "hunter2"
}`, `codecommit makes user name and password by itself`},
		{"unknown gate", minimal + `gate "chekov" {}`, `there is no gate "chekov": did you mean "checkov"?`},
		{"setting of another gate", minimal + `gate "tflint" { check = ["CKV_AWS_1"] }`, `check is a setting of checkov, not of tflint`},
		{"gate without a command", minimal + `gate "semgrep" {}`, `there is no gate "semgrep": known: tflint, checkov, trivy, test; one of your own needs command = [...]`},
		{"command of a known gate", minimal + `gate "tflint" { command = ["tflint"] }`, `command is for gates of your own, and Waymark knows tflint`},
		{"path of a gate of one's own", minimal + `gate "own" {
  path    = "x"
  command = ["x"]
}`, `path is a setting of tflint, checkov, trivy, not of own`},
		{"gate called like ours", minimal + `gate "policy" { command = ["x"] }`, `the name of gate "policy" cannot be "policy"`},
		{"format of nobody", minimal + `gate "own" {
  command = ["x"]
  format  = "tap"
}`, `gate.own.format cannot be "tap": known: sarif, junit`},
		{"gates of an environment", gated + `environment "prod" {
  regions = ["us-east-1"]
  gates   = ["tflint", "trvy"]
}`, `gates of environment "prod" names "trvy", and no gate of that name is switched on: did you mean "trivy"?`},
		{"gate that is off in an environment", gated + `environment "prod" {
  regions = ["us-east-1"]
  gates   = ["checkov"]
}`, `gates of environment "prod" names "checkov", and no gate of that name is switched on`},
		{"soft gate that does not judge", gated + `environment "prod" {
  regions    = ["us-east-1"]
  gates      = ["tflint"]
  soft_gates = ["trivy"]
}`, `soft_gates of environment "prod" names "trivy", which is no gate of this environment`},
		{"floor of a gate that does not judge", gated + `environment "prod" {
  regions      = ["us-east-1"]
  gate_fail_on = { checkov = "error" }
}`, `gate_fail_on of environment "prod" names "checkov", which is no gate of this environment`},
		{"floor that is none", gated + `environment "prod" {
  regions      = ["us-east-1"]
  gate_fail_on = { tflint = "high" }
}`, `gate_fail_on.tflint cannot be "high": known: error, warning, notice`},
		{"waiver without owner", gated + strings.Replace(waiver, "owner", "#", 1), `waiver.w.owner is missing`},
		{"waiver without end", gated + strings.Replace(waiver, "expires", "#", 1), `waiver.w.expires is missing`},
		{"waiver until nobody knows", gated + strings.Replace(waiver, "2027-01-31", "2027-02-30", 1), `waiver.w.expires is no date: "2027-02-30"`},
		{"waiver of no gate", gated + strings.Replace(waiver, "tflint", "tflnt", 1), `waiver "w" names "tflnt", which is no gate of this file: did you mean "tflint"?`},
		{"waiver of no team", gated + strings.Replace(waiver, "}", "teams = [\"reseach\"]\n}", 1), `waiver "w" names "reseach", which is no team`},
		{"waiver of no environment", gated + strings.Replace(waiver, "}", "environments = [\"prod\"]\n}", 1), `waiver "w" names "prod", which is no environment`},
		{"waiver of no target", gated + strings.Replace(waiver, "}", "targets = [\"dev_eu-west-1/research\"]\n}", 1), `waiver "w" names the target "dev_eu-west-1/research", which is not configured`},
		{"waiver of a misspelt target", gated + strings.Replace(waiver, "}", "targets = [\"dev/research\"]\n}", 1), `waiver.w.targets[0] is no target: "dev/research"`},
		{"waiver of a broken pattern", gated + strings.Replace(waiver, "}", "paths = [\"a/[\"]\n}", 1), `waiver.w.paths[0] is no pattern: "a/["`},
		{"waiver outside", gated + strings.Replace(waiver, "}", "paths = [\"../a\"]\n}", 1), `waiver.w.paths[0] matches no file: "../a"`},
		{"waiver of half a folder", gated + strings.Replace(waiver, "}", "paths = [\"a**/b\"]\n}", 1), `waiver.w.paths[0] is no pattern: "a**/b": write ** between slashes`},
		{"severity as check", minimal + `gate "checkov" { check = ["HIGH"] }`, `checkov knows no severities`},
		{"password in url", minimal + `repository "x" { url = "https://u:hunter2@h/x" }`, `repository.x.url holds a user name or password`},
		{"token in url", minimal + `repository "x" { url = "https://hunter2@h/x" }`, `repository.x.url holds a user name or password`},
		{"option as url", minimal + `repository "x" { url = "--upload-pack=x" }`, `repository.x.url is no repository`},
		{"helper as url", minimal + `repository "x" { url = "ext::sh -c x" }`, `repository.x.url is no repository`},
		{"key for https", minimal + `repository "x" {
  url     = "https://h/x"
  ssh_key = "id"
}`, `ssh_key does nothing for this repository: its url is reached by https`},
		{"backend without key", minimal + `backend "s3" { bucket = "b" }`, `backend "s3" needs key, which says where the state lives`},
		{"block in backend", minimal + `backend "s3" {
  bucket = "b"
  key    = "${env}/${scope}/${team}"
  assume_role { role_arn = "x" }
}`, `a backend takes no blocks: write assume_role = { ... }`},
		{"version in backend", minimal + `backend "s3" {
  bucket = "b"
  key    = "${version}"
}`, `the variable version cannot be used in backend`},
		{"local in data_dir itself", minimal + `backend "local" { path = "${env}-${scope}-${team}.tfstate" }`, `it names a file in data_dir itself`},
		{"local among the runs", minimal + `backend "local" { path = "runs/${env}-${scope}-${team}/x" }`, `a folder of the service's own`},
		{"local outside of data_dir", minimal + `backend "local" { path = "/tmp/${env}-${scope}-${team}" }`, `is outside of data_dir`},
		{"syntax", minimal + `server { listen = `, `:6:`},
		{"nested too deep", minimal + "a = " + strings.Repeat("[", 900000), `nested too deep`},
		{"nested behind closers", minimal + "a = " + strings.Repeat("[}", 400000), `nested too deep`},
		{"too large", strings.Repeat("#", 1<<20+1), `larger than`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("waymark.hcl", []byte(tt.src), environ(nil))
			var problems config.Problems
			if !errors.As(err, &problems) || !errors.Is(err, release.ErrInvalid) {
				t.Fatalf("want problems, got %v", err)
			}
			if len(problems) != 1 {
				t.Errorf("want one problem, got %d:\n%v", len(problems), err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a secret is in the message")
			}
		})
	}
}

func TestAllProblemsComeAtOnceInTheOrderOfTheFile(t *testing.T) {
	const src = `server {
  listen = "nowhere"
  databse = "sqlite"
}
repository "Infra" {}
stack {
  path = "${tem}"
}
environment "prod" {
  regions       = ["us-east-1", "moon"]
  promotes_from = "dev"
}
engine { timeout = "soon" }
`
	_, err := config.Parse("waymark.hcl", []byte(src), environ(nil))
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("want problems, got %v", err)
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprint(p.Line))
	}
	if got, want := strings.Join(lines, " "), "1 2 3 5 5 7 10 11 13"; got != want {
		t.Errorf("problems are on lines %s, want %s:\n%v", got, want, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add(minimal + `backend "s3" {
  bucket = "b-${account}"
  key    = "${env}/${scope}/${team}"
}
stack { account = tfvar("x", "y") }`)
	f.Add(`server { listen = 1e99999 }`)
	f.Add(`stack { var_files = [for f in ["a", "b"]: optional("${env}/${f}")] }`)
	f.Fuzz(func(t *testing.T, src string) {
		_, err := config.Parse("waymark.hcl", []byte(src), environ(map[string]string{"SET": "x"}))
		if err == nil {
			return
		}
		var problems config.Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("an error without problems: %v", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.File != "waymark.hcl" || p.Summary == "" {
				t.Errorf("a problem without its place: %+v", p)
			}
		}
	})
}
