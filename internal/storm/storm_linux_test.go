package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// configuration is that of every replica: what differs comes from its environment.
const configuration = `
server {
  listen         = env("STORM_LISTEN")
  data_dir       = env("STORM_DATA")
  database       = env("STORM_DATABASE")
  max_runs       = 6
  shutdown_grace = "2s"
  heartbeat      = "$heartbeat"
}
repository "infra" {
  url  = env("STORM_REMOTE")
  poll = "1s"
  webhook { secret = "storm" }
}
engine { path = env("STORM_ENGINE") }
aws {
  region    = "us-east-1"
  endpoints = { sts = env("STORM_STS"), s3 = env("STORM_S3") }
}
backend "s3" {
  bucket       = "storm"
  key          = "${team}/${env}-${scope}/terraform.tfstate"
  region       = "us-east-1"
  use_lockfile = true
}
credentials { run_role = "arn:aws:iam::111122223333:role/WaymarkRun" }
blobs { folder = env("STORM_BLOBS") }
runner {
  writable = [env("STORM_LEDGER")]
  readable = [env("STORM_TOFU")]
}
stack {
  path      = team == "real" ? "real" : "posed"
  variables = { target = "${env}_${scope}/${team}", tag = tag }
}
teams = ["t0", "t1", "t2", "t3", "t4", "real"]
environment "dev" { regions = ["us-east-1", "eu-central-1"] }
environment "staging" {
  regions   = ["us-east-1"]
  approvals = 1
}
`

// targets of the storm: posed ones, those that wait for a yes between plan and
// apply, and real ones.
func targets() []string {
	var all []string
	for _, team := range []string{"t0", "t1", "t2", "t3", "t4", "real"} {
		for _, scope := range []string{"us-east-1", "eu-central-1"} {
			all = append(all, "dev_"+scope+"/"+team)
		}
	}
	return append(all, "staging_us-east-1/t0", "staging_us-east-1/real")
}

// code is the infrastructure: the same for both engines, but for a pause that
// makes a real apply long enough to be hit.
const code = `
terraform {
  backend "s3" {}
}
variable "target" { type = string }
variable "tag" { type = string }
resource "terraform_data" "it" {
  input            = var.tag
  triggers_replace = var.tag
  $provisioner
}
`

// storm is one installation and what happens to it. Its methods are called by
// the test's goroutine; the person and the webhooks have goroutines of their own.
type storm struct {
	options
	t        *testing.T
	dir      string
	random   *rand.Rand
	remote   *testkit.Remote
	git      *lyingRemote
	database *testkit.PostgresServer
	record   *pgxpool.Pool // the harness's own way to the database, past every proxy
	cloud    *testkit.AWS
	replicas []*replica
	ledger   string
	began    time.Time

	agenda []event
	pushed map[string]int  // by target, how many tags
	moved  map[string]bool // tags that were moved after their run had ended
	tags   []string        // in the order in which they were pushed
	counts map[string]int  // faults by kind
	notes  []string        // what cannot be played here
	deaths []*death
	person *person
	breaks []string // the invariants that do not hold

	calmRecovery, recovery time.Duration
}

func newStorm(t *testing.T, o options) *storm {
	t.Helper()
	dir, err := os.MkdirTemp("", "waymark-storm-")
	if err != nil {
		t.Fatal(err)
	}
	s := &storm{options: o, t: t, dir: dir, random: rand.New(rand.NewPCG(o.seed, 0)),
		pushed: map[string]int{}, moved: map[string]bool{}, counts: map[string]int{}}
	if !o.clocks {
		s.notes = append(s.notes, "clocks that differ by minutes: -storm.clocks was not given")
	}
	t.Cleanup(s.tidy) // last, after every process has ended
	s.must(os.Chmod(dir, 0o711))
	s.ledger = filepath.Join(dir, "ledger", "applies.jsonl")
	for _, d := range []string{"bin", "ledger", "blobs", "logs"} {
		s.must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	s.must(os.WriteFile(s.ledger, nil, 0o600))
	s.openRemote()
	s.openDatabase()
	s.cloud = testkit.StartAWS(t)
	s.cloud.CreateBucket("storm", "", "")
	s.cloud.Role("arn:aws:iam::111122223333:role/WaymarkRun", testkit.RoleOptions{Trusts: []string{"arn:aws:iam::" + testkit.AWSAccount + ":user/waymark"}})
	s.openReplicas()
	t.Cleanup(func() { // first, while the database is there
		if t.Failed() {
			s.keepRecord()
		}
	})
	return s
}

func (s *storm) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *storm) openRemote() {
	s.remote = testkit.NewRemote(s.t)
	s.remote.Commit(map[string]string{
		posedCode + "/main.tf": strings.ReplaceAll(code, "$provisioner", ""),
		realCode + "/main.tf":  strings.ReplaceAll(code, "$provisioner", `provisioner "local-exec" { command = "sleep 1" }`),
	})
	s.git = newLyingRemote(s.t, s.remote)
}

func (s *storm) openDatabase() {
	s.database = testkit.NewPostgresServer(s.t)
	config, err := pgxpool.ParseConfig(s.database.URL())
	s.must(err)
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared in a server that goes away
	s.record, err = pgxpool.NewWithConfig(s.t.Context(), config)
	s.must(err)
	s.t.Cleanup(s.record.Close)
}

func (s *storm) openReplicas() {
	binary, err := os.ReadFile(s.waymark)
	s.must(err)
	waymarks := clockNames(s.options.replicas, s.clocks)
	for i, name := range waymarks {
		waymarks[i] = filepath.Join(s.dir, "bin", name)
		s.must(os.WriteFile(waymarks[i], binary, 0o755))
	}
	tofu := testkit.Tool(s.t, "tofu")
	engine, err := installEngine(filepath.Join(s.dir, "bin"), part{Ledger: s.ledger, Real: tofu})
	s.must(err)
	config := filepath.Join(s.dir, "waymark.hcl")
	s.must(os.WriteFile(config, []byte(strings.ReplaceAll(configuration, "$heartbeat", s.heartbeat.String())), 0o600))
	id, secret := s.cloud.Service()
	at := s.cloud.Endpoints()
	spawn := newSpawner(s.t)
	for i := range s.options.replicas {
		name := fmt.Sprintf("r%d", i+1)
		r := &replica{name: name, data: filepath.Join(s.dir, "data-"+name), address: freeAddress(s.t), spawn: spawn,
			log: filepath.Join(s.dir, "logs", name), waymark: waymarks[i], config: config, database: testkit.NewProxy(s.t, s.database.Socket())}
		s.must(os.Mkdir(r.data, 0o700))
		if i == 0 {
			err := smallDisk(s.t, r.data)
			if r.small = err == nil; err != nil {
				s.notes = append(s.notes, "no disk is filled: "+err.Error())
			}
		}
		r.env = append(os.Environ(), "STORM_LISTEN="+r.address, "STORM_DATA="+r.data, "STORM_REMOTE="+s.git.url, "STORM_ENGINE="+engine,
			"STORM_DATABASE=postgres://postgres@"+r.database.Addr()+"/postgres?sslmode=disable", "STORM_STS="+at["sts"], "STORM_S3="+at["s3"],
			"STORM_BLOBS="+filepath.Join(s.dir, "blobs"), "STORM_LEDGER="+filepath.Dir(s.ledger), "STORM_TOFU="+filepath.Dir(tofu),
			"AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_EC2_METADATA_DISABLED=true")
		r.client, err = api.NewClient(api.ClientConfig{Server: "http://" + r.address})
		s.must(err)
		s.replicas = append(s.replicas, r)
	}
	s.t.Cleanup(func() {
		for _, r := range s.replicas {
			if r.cmd != nil {
				r.kill()
			}
		}
		signalAll(processes(s.dir), 9)
	})
}

// tidy removes the folder of a storm that went well; of another, it says where
// it is.
func (s *storm) tidy() {
	if s.t.Failed() {
		s.t.Logf("what the replicas, their runners and the ledger say is kept in %s (seed %d)", s.dir, s.seed)
		return
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

// run plays the whole storm: a death in calm, the faults, the time after, the
// verdict.
func (s *storm) run() {
	s.person = newPerson(s)
	s.firstContact()
	if s.options.replicas > 1 {
		s.deathInCalm()
	}
	s.began = time.Now()
	s.plan()
	stop := s.person.start()
	s.weather()
	s.calm()
	s.settle()
	stop()
	s.verdict()
}

// firstContact starts all replicas and waits until the repository is on record.
func (s *storm) firstContact() {
	for _, r := range s.replicas {
		s.must(r.start())
	}
	for _, r := range s.replicas {
		if !soon(time.Minute, func() bool { return s.answers(r) || !r.running() }) || !r.running() {
			log, _ := os.ReadFile(r.log)
			s.t.Fatalf("%s did not come up:\n%s", r.name, log)
		}
	}
	if !soon(time.Minute, func() bool {
		var n int
		return s.ask("SELECT count(*) FROM repositories", nil, &n) && n == 1
	}) {
		s.t.Fatal("the repository was never looked at")
	}
}

func (s *storm) answers(r *replica) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	_, err := r.client.Targets(ctx)
	return err == nil
}

// ask reads one row of the record; false where the database cannot be asked now.
func (s *storm) ask(query string, args []any, into ...any) bool {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	return s.record.QueryRow(ctx, query, args...).Scan(into...) == nil
}

// push makes the next tag of a target, with a suffix to its version.
func (s *storm) push(target, suffix string) string {
	s.pushed[target]++
	tag := fmt.Sprintf("%s/1.%d%s", target, s.pushed[target], suffix)
	s.remote.Tag(tag, "main", "storm")
	s.tags = append(s.tags, tag)
	return tag
}
