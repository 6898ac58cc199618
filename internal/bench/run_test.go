package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

// rounds is how often each way is measured, in turn with the other.
const rounds = 11

const code = `
variable "team" { type = string }
variable "round" { type = string }
resource "terraform_data" "a" { input = "${var.team} ${var.round}" }
resource "terraform_data" "b" { input = terraform_data.a.output }
output "what" { value = terraform_data.b.output }
`

const configuration = `
server {
  listen   = "127.0.0.1:0"
  data_dir = "data"
  max_runs = 6
}
repository "infra" {
  url  = env("BENCH_REMOTE")
  poll = "1h" # a webhook says when to look
  webhook { secret = "bench" }
}
engine { path = env("BENCH_TOFU") }
stack { variables = { team = team, round = version } }
teams = ["t0", "t1", "t2", "t3", "t4", "t5"]
environment "dev" { regions = ["us-east-1"] }
`

// BenchmarkOneTag measures a tag's whole way, from the webhook that tells of it
// to the run that succeeded, against bare init, plan and apply of the same code.
func BenchmarkOneTag(b *testing.B) { compare(b, 1, "one tag", "at most 100 ms more") }

// BenchmarkSixTags measures six targets side by side against six times bare
// init, plan and apply side by side.
func BenchmarkSixTags(b *testing.B) { compare(b, 6, "six tags side by side", "at most 250 ms more") }

func compare(b *testing.B, targets int, what, goal string) {
	tofu := testkit.Tool(b, "tofu")
	s := startService(b, tofu)
	hand := newByHand(b, tofu, targets)
	var theirs, ours, starts []time.Duration
	for b.Loop() {
		theirs, ours, starts = nil, nil, nil
		for round := range rounds + 1 {
			t, o := hand.deploy(round), s.deploy(targets, round)
			if round > 0 { // the first of each warms up
				theirs, ours, starts = append(theirs, t), append(ours, o), append(starts, s.started)
			}
		}
	}
	t, o := median(theirs), median(ours)
	b.ReportMetric(float64(o-t)/float64(time.Millisecond), "ms-more")
	table = append(table, row{what, t, o, fmt.Sprintf("%+d ms", (o - t).Milliseconds()), goal},
		row{what + ": from the webhook to the start of the first run", 0, median(starts), "", "at most 1000 ms"})
}

// byHand deploys the same code as a person would, one folder for each target.
type byHand struct {
	b    *testing.B
	tofu string
	dirs []string
}

func newByHand(b *testing.B, tofu string, targets int) *byHand {
	h := &byHand{b: b, tofu: tofu}
	for range targets {
		h.dirs = append(h.dirs, b.TempDir())
	}
	return h
}

func (h *byHand) deploy(round int) time.Duration {
	var all sync.WaitGroup
	start := time.Now()
	for i, dir := range h.dirs {
		all.Go(func() {
			work := filepath.Join(dir, fmt.Sprint(round)) // a fresh working copy, as a pipeline has
			if err := os.Mkdir(work, 0o700); err != nil {
				h.b.Error(err)
			}
			text := code + "terraform {\n  backend \"local\" {}\n}\n"
			if err := os.WriteFile(filepath.Join(work, "main.tf"), []byte(text), 0o600); err != nil {
				h.b.Error(err)
			}
			vars := []string{"-var=team=t" + fmt.Sprint(i), "-var=round=" + fmt.Sprint(round)}
			for _, args := range [][]string{
				{"init", "-input=false", "-backend-config=path=" + filepath.Join(dir, "terraform.tfstate")},
				append([]string{"plan", "-input=false", "-out=plan"}, vars...),
				{"apply", "-input=false", "plan"},
			} {
				cmd := exec.Command(h.tofu, args...)
				cmd.Dir, cmd.Env = work, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CHECKPOINT_DISABLE=1"}
				if out, err := cmd.CombinedOutput(); err != nil {
					h.b.Errorf("tofu %s: %v\n%s", args[0], err, out)
				}
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// service is a real waymark, started from its binary.
type service struct {
	b       *testing.B
	remote  *testkit.Remote
	url     string
	client  *api.Client
	started time.Duration // from the webhook to the start of the first run, of the last deploy
}

func startService(b *testing.B, tofu string) *service {
	binary, dir := buildWaymark(b), b.TempDir()
	s := &service{b: b, remote: testkit.NewRemote(b)}
	s.remote.Commit(map[string]string{"main.tf": code})
	file := filepath.Join(dir, "waymark.hcl")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", file)
	cmd.Env = append(os.Environ(), "BENCH_REMOTE="+s.remote.Dir, "BENCH_TOFU="+tofu)
	s.url = begin(b, cmd)
	var err error
	if s.client, err = api.NewClient(api.ClientConfig{Server: s.url}); err != nil {
		b.Fatal(err)
	}
	s.until(func() bool {
		page, err := s.client.Audit(b.Context(), 0, 1)
		return err == nil && len(page.Entries) == 1 // first contact
	})
	return s
}

// buildWaymark builds the binary that is measured.
func buildWaymark(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "waymark")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/waymark-cd/waymark/cmd/waymark")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building waymark: %v\n%s", err, out)
	}
	return binary
}

// begin starts a service, which ends with the test, and gives its address.
func begin(t testing.TB, cmd *exec.Cmd) (url string) {
	t.Helper()
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	up, ended, said := make(chan string, 1), make(chan struct{}), ""
	go func() { defer close(ended); said = readAddress(log, up); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended })
	select {
	case url = <-up:
	case <-ended:
		t.Fatalf("the service did not start:\n%s", said)
	}
	return url
}

// readAddress passes the service's address on, drops the rest of its log, and gives
// what it said before.
func readAddress(log io.Reader, up chan<- string) string {
	address := regexp.MustCompile(`address=(http://\S+)`)
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := log.Read(buf)
		if up != nil {
			seen.Write(buf[:n])
			if m := address.FindSubmatch(seen.Bytes()); m != nil {
				up <- string(m[1])
				up = nil
			}
		}
		if err != nil {
			return seen.String()
		}
	}
}

func (s *service) until(ok func() bool) {
	s.b.Helper()
	ctx, cancel := context.WithTimeout(s.b.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			s.b.Fatal("the service did not come to an end within a minute")
		case <-tick.C:
		}
	}
}

// deploy pushes a tag for each target, tells the service by webhook, waits until
// every run has succeeded, and returns the time from the webhook to the end of
// the last run. It looks seldom, so as not to take the time that it measures.
func (s *service) deploy(targets, round int) time.Duration {
	s.b.Helper()
	version := fmt.Sprintf("1.%d", round)
	for i := range targets {
		s.remote.Tag(fmt.Sprintf("dev_us-east-1/t%d/%s", i, version), "main", "bench")
	}
	start, end := time.Now(), time.Time{}
	s.started = time.Hour
	s.hint()
	s.until(func() bool {
		list, err := s.client.Runs(s.b.Context(), api.RunQuery{Limit: targets})
		if err != nil {
			s.b.Fatal(err)
		}
		done := 0
		for _, r := range list.Runs {
			if r.Version == version && release.State(r.State).Ended() {
				if r.State != string(release.Succeeded) {
					s.b.Fatalf("%s is %s: %s", r.Tag, r.State, r.Reason)
				}
				done++
				s.started = min(s.started, r.StartedAt.Sub(start))
				if r.FinishedAt.After(end) {
					end = r.FinishedAt
				}
			}
		}
		return done == targets
	})
	return end.Sub(start)
}

func (s *service) hint() {
	body := `{"ref":"refs/tags/x"}`
	mac := hmac.New(sha256.New, []byte("bench"))
	mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(s.b.Context(), http.MethodPost, s.url+"/webhooks/infra", strings.NewReader(body))
	if err != nil {
		s.b.Fatal(err)
	}
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.b.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		s.b.Fatalf("the webhook answered %s", res.Status)
	}
}
