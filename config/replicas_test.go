package config_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// twoEnvironments is minimal with an environment of other Regions.
const twoEnvironments = minimal + `
environment "prod" { regions = ["us-east-1", "ap-southeast-1"] }
`

func TestPoolOf(t *testing.T) {
	c := parse(t, twoEnvironments+`
pool "euc1" { scopes = ["eu-central-1"] }
pool "dev-research" {
  environments = ["dev"]
  teams        = ["research"]
}
pool "worldwide" {
  scopes = ["global"]
  teams  = ["research", "risk"]
}
pool "prod" { environments = ["prod"] }
`)
	for name, want := range map[string]string{
		"dev_eu-central-1/research":    "euc1", // the first of two that match
		"dev_us-east-1/research":       "dev-research",
		"dev_global/research":          "dev-research",
		"dev_us-east-1/risk":           "default",
		"dev_global/risk":              "worldwide",
		"prod_global/risk":             "worldwide",
		"prod_ap-southeast-1/research": "prod",
		"gone_us-east-1/gone":          "default", // of a record that outlived the configuration
	} {
		target, err := release.ParseTarget(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.PoolOf(target); got != want {
			t.Errorf("%s belongs to %q, want %q", name, got, want)
		}
	}
	if got := c.PoolNames(); !slices.Equal(got, []string{"euc1", "dev-research", "worldwide", "prod", "default"}) {
		t.Errorf("the pools are %v", got)
	}
	target, _ := release.ParseTarget("dev_us-east-1/risk")
	if got := parse(t, minimal).PoolOf(target); got != "default" {
		t.Errorf("without pools it is %q", got)
	}
	if got := parse(t, minimal+`pool "all" {}`).PoolOf(target); got != "all" {
		t.Errorf("a pool without selectors takes everything, and it is %q", got)
	}
}

func TestReplicasAreDecoded(t *testing.T) {
	c := parse(t, minimal+`
server { heartbeat = "2s" }
environment "prod" {
  regions = ["us-east-1"]
  unknown = "replan"
}
blobs {
  bucket     = "org-waymark-blobs"
  prefix     = "waymark/prod/"
  kms_key_id = "alias/waymark"
}
aws { region = "eu-west-1" }
retention { runs = "2160h" }
`)
	if c.Server.Heartbeat != 2*time.Second || c.Environments[1].Unknown != "replan" {
		t.Errorf("heartbeat %s, unknown %q", c.Server.Heartbeat, c.Environments[1].Unknown)
	}
	if want := (config.Blobs{Bucket: "org-waymark-blobs", Prefix: "waymark/prod/", Region: "eu-west-1", KMSKeyID: "alias/waymark"}); c.Blobs != want {
		t.Errorf("blobs %+v, want %+v", c.Blobs, want)
	}
	if want := (config.Retention{Runs: 90 * 24 * time.Hour, Logs: 90 * 24 * time.Hour}); c.Retention != want {
		t.Errorf("retention %+v, want %+v", c.Retention, want)
	}
	for src, want := range map[string]config.Blobs{
		`blobs { folder = "../blobs" }`: {Folder: "/etc/blobs"},
		"blobs {\n  bucket = \"b.c\"\n  region = \"us-east-1\"\n}\naws { region = \"eu-west-1\" }": {Bucket: "b.c", Region: "us-east-1"},
		`blobs { bucket = "org-blobs" }`:            {Bucket: "org-blobs"},
		`aws { region = "eu-west-1" }`:              {},
		`server { database = "postgres://h/none" }`: {}, // replicas may do without
	} {
		if got := parse(t, minimal+src).Blobs; got != want {
			t.Errorf("%s: blobs %+v, want %+v", src, got, want)
		}
	}
	for src, want := range map[string]config.Retention{
		`retention { logs = "24h" }`:                           {Logs: 24 * time.Hour},
		"retention {\n  runs = \"48h\"\n  logs = \"24h\"\n}":   {Runs: 48 * time.Hour, Logs: 24 * time.Hour},
		"retention {\n  runs = \"48h\"\n  logs = \"2880m\"\n}": {Runs: 48 * time.Hour, Logs: 48 * time.Hour},
		`retention {}`: {},
	} {
		if got := parse(t, minimal+src).Retention; got != want {
			t.Errorf("%s: retention %+v, want %+v", src, got, want)
		}
	}
}

func TestKMSKeysAndPrefixes(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, c := range []struct {
		name, value string
		good        bool
	}{
		{"kms_key_id", id, true},
		{"kms_key_id", "mrk-" + strings.Repeat("0a", 16), true},
		{"kms_key_id", "arn:aws:kms:us-east-1:111122223333:key/" + id, true},
		{"kms_key_id", "arn:aws-cn:kms:cn-north-1:111122223333:alias/team/waymark", true},
		{"kms_key_id", "waymark", false},
		{"kms_key_id", "key/" + id, false},
		{"kms_key_id", "arn:aws:kms:us-east-1:111122223333:" + id, false},
		{"kms_key_id", "", false},
		{"prefix", "waymark", true},
		{"prefix", "a/b.c/d_e-1/", true},
		{"prefix", "", false},
		{"prefix", "/waymark", false},
		{"prefix", "a//b", false},
		{"prefix", "../a", false},
		{"prefix", "a/.b", false},
		{"prefix", "a b", false},
		{"prefix", "größe", false},
		{"prefix", strings.Repeat("a", 201), false},
		{"prefix", strings.Repeat("a/", 257), false},
		{"bucket", "Org", false},
		{"bucket", "s3://org", false},
		{"bucket", "a..b", false},
		{"bucket", "ab", false},
	} {
		src := minimal + fmt.Sprintf("blobs {\n  %s = %q\n", c.name, c.value)
		if c.name != "bucket" {
			src += "  bucket = \"org-blobs\"\n"
		}
		_, err := config.Parse("waymark.hcl", []byte(src+"}\n"), nil)
		if good := err == nil; good != c.good || !good && !strings.Contains(err.Error(), "blobs."+c.name+" is no ") {
			t.Errorf("%s = %q: %v", c.name, c.value, err)
		}
	}
}

func TestDigestNamesTheText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "waymark.hcl")
	if err := os.WriteFile(file, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(file, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(minimal))); loaded.Text != minimal || loaded.Digest != want {
		t.Errorf("text %q, digest %s, want %s", loaded.Text, loaded.Digest, want)
	}
	if same, other := parse(t, minimal), parse(t, minimal+"\n"); same.Digest != loaded.Digest || other.Digest == loaded.Digest {
		t.Errorf("the digests of the same text %s and %s, of another %s", loaded.Digest, same.Digest, other.Digest)
	}
}

// Each case is what must be said of the minimal file and more, and nothing else.
func TestProblemsOfReplicas(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"pool twice", `pool "a" { teams = ["risk"] }` + "\n" + `pool "a" { teams = ["research"] }`,
			`:11:1: pool "a" is there twice: the first is on line 10; make one of them`},
		{"default is reserved", `pool "default" {}`,
			`:10:6: the name of pool "default" cannot be "default": that pool is there by itself, for the targets that no other takes; write another name`},
		{"bad pool name", `pool "EU" {}`, `the name of pool "EU" cannot be "EU": write a lower-case letter`},
		{"pool without name", `pool {}`, `pool takes one name`},
		{"unknown environment", `pool "a" { environments = ["dve"] }`,
			`:10:12: pool.a.environments cannot name "dve", which is not configured: did you mean "dev"? known: dev, prod`},
		{"unknown team", `pool "a" { teams = ["resaerch"] }`, `pool.a.teams cannot name "resaerch", which is not configured: did you mean "research"?`},
		{"unknown Region", `pool "a" { scopes = ["eu-central-2"] }`,
			`pool.a.scopes cannot name "eu-central-2", which is not configured: did you mean "eu-central-1"?`},
		{"no scope", `pool "a" { scopes = ["europe"] }`, `pool.a.scopes[0] cannot be "europe": write an AWS Region such as us-east-1, or global`},
		{"empty selector", `pool "a" { teams = [] }`, `:10:12: pool.a.teams is empty: nothing would match: name some, or leave it out for all`},
		{"unknown selector", `pool "a" { regions = ["us-east-1"] }`, `there is no attribute "regions" here`},
		{"selectors that match nothing together", "pool \"a\" {\n  environments = [\"dev\"]\n  scopes       = [\"ap-southeast-1\"]\n}",
			`:10:1: no target belongs to pool "a": its selectors must all match, and no configured target matches them all`},
		{"pool behind another", `pool "a" { scopes = ["eu-central-1"] }` + "\n" + "pool \"b\" {\n  environments = [\"dev\"]\n  scopes       = [\"eu-central-1\"]\n}",
			`:11:1: no target belongs to pool "b": what it matches belongs to a pool before it, such as "a": put this one first, or narrow that one`},
		{"short heartbeat", `server { heartbeat = "1999ms" }`, `:10:22: server.heartbeat cannot be less than 2s: write a longer one`},
		{"unknown unknown", `environment "x" {` + "\n  regions = [\"us-east-1\"]\n  unknown = \"retry\"\n}", `environment.x.unknown cannot be "retry": known: ask, replan`},
		{"blobs in two places", "blobs {\n  folder = \"/srv/blobs\"\n  bucket = \"org-blobs\"\n}",
			`:12:3: blobs has both a folder and a bucket: they are kept in one place: take one of the two out`},
		{"blobs nowhere", `blobs {}`, `:10:1: blobs has neither a folder nor a bucket: write folder = "/srv/waymark-blobs" or bucket = "..."`},
		{"prefix of nothing", "blobs {\n  prefix = \"a/\"\n}", `blobs has neither a folder nor a bucket`},
		{"key for a folder", "blobs {\n  folder     = \"/srv/blobs\"\n  kms_key_id = \"alias/a\"\n}",
			`:12:3: blobs.kms_key_id does nothing for a folder: it is a setting of a bucket: take it out`},
		{"blobs in data_dir", "blobs { folder = \"/srv/way/blobs\" }\nserver { data_dir = \"/srv/way\" }",
			`:10:9: blobs.folder is in data_dir, which belongs to one process alone: write a folder that every replica sees`},
		{"empty folder", `blobs { folder = "" }`, `blobs.folder is empty: write a path`},
		{"runs kept too shortly", `retention { runs = "23h" }`, `retention.runs cannot be less than 24h0m0s: write a longer one, such as "2160h"`},
		{"logs kept too shortly", `retention { logs = "0s" }`, `retention.logs cannot be less than 24h0m0s`},
		{"logs outlive runs", "retention {\n  runs = \"720h\"\n  logs = \"721h\"\n}",
			`:12:3: retention.logs is longer than retention.runs, 720h0m0s: nobody finds the log of a run that is forgotten: write a shorter time`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("waymark.hcl", []byte(twoEnvironments+"\n\n"+tt.src+"\n"), environ(nil))
			var problems config.Problems
			if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	without := strings.Replace(minimal, `global_region = "us-east-1"`, "", 1)
	if _, err := config.Parse("waymark.hcl", []byte(without+`pool "a" { scopes = ["global"] }`), environ(nil)); err == nil ||
		!strings.Contains(err.Error(), `pool "a" takes global targets, and global_region is missing`) {
		t.Errorf("global without a Region: %v", err)
	}
}

// What pools select from is not guessed at where it cannot be read.
func TestPoolsAreNotJudgedByABrokenFile(t *testing.T) {
	_, err := config.Parse("waymark.hcl", []byte(strings.Replace(minimal, `"dev"`, `"Dev"`, 1)+`pool "a" { environments = ["dev"] }`), environ(nil))
	var problems config.Problems
	if !errors.As(err, &problems) || len(problems) != 1 {
		t.Errorf("got %v", err)
	}
}
