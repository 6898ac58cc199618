package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/internal/fill"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

var (
	size     = fill.Full()
	keptIn   = flag.String("data", "../../.tools/bench-data", "`folder` in which filled databases are kept from one bench to the next")
	requests = flag.Int("requests", 400, "requests of each address")
	only     = flag.String("pages", "", "only addresses whose names match this `pattern`")
)

func init() {
	flag.IntVar(&size.Runs, "runs", size.Runs, "runs in the database")
	flag.IntVar(&size.Entries, "entries", size.Entries, "entries of its audit log")
	flag.IntVar(&size.Resources, "resources", size.Resources, "resources of its inventory")
}

// What a page may take.
const (
	goalMost = 20 * time.Millisecond // of half of the requests
	goalAll  = 50 * time.Millisecond // of 99 in 100
	patience = 15 * time.Second      // for all requests of one address
)

const muchConfiguration = `
server {
  listen   = "127.0.0.1:0"
  data_dir = env("BENCH_DATA")
  database = env("BENCH_DATABASE")
}
repository "infra" {
  url  = env("BENCH_REMOTE")
  poll = "24h"
}
engine { path = env("BENCH_TOFU") }
stack { variables = { team = team } }
teams = ["research"]
environment "dev" {
  regions = ["us-east-1"]
  public  = true
}
`

// much is a real service over a filled database.
type much struct {
	t     testing.TB
	url   string
	began time.Duration // until the service answered
	disk  *disk         // where the database is
	cmd   *exec.Cmd
	facts facts
}

// keptDatabase is one that is kept from one bench to the next, with the folder that
// it is in. PostgreSQL has the buffers that it is given on a small machine: a quarter
// of 8 GB.
func keptDatabase(t testing.TB, engine string) (url, dir string) {
	dir = folder(t, *keptIn, engine, size)
	if engine == "sqlite" {
		return "sqlite://" + filepath.Join(dir, "waymark.db"), dir
	}
	return testkit.PostgresIn(t, filepath.Join(dir, "cluster"), "-c", "max_connections=40", "-c", "shared_buffers=2GB", "-c", "wal_level=minimal",
		"-c", "max_wal_senders=0", "-c", "max_wal_size=1GB", "-c", "fsync=off", "-c", "autovacuum=off"), dir
}

// ownDatabase is one for a test alone.
func ownDatabase(t testing.TB, engine string) (url, dir string) {
	dir = t.TempDir()
	if engine == "sqlite" {
		return "sqlite://" + filepath.Join(dir, "waymark.db"), dir
	}
	return testkit.Postgres(t), dir
}

// folder is where a database of this size, schema and make is kept.
func folder(t testing.TB, keep, engine string, s fill.Size) string {
	t.Helper()
	schema, err := filepath.Glob("../../store/migrations/" + engine + "/*.sql")
	if err != nil || len(schema) == 0 {
		t.Fatalf("no migrations of %s: %v", engine, err)
	}
	version, _, _ := strings.Cut(filepath.Base(slices.Max(schema)), "_")
	dir, err := filepath.Abs(filepath.Join(keep, fmt.Sprintf("%s-%s-%s", engine, version, s)))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// filled sees to it that a database holds what it is to.
func filled(t testing.TB, url, dir string, s fill.Size) {
	t.Helper()
	mark := filepath.Join(dir, "filled")
	if _, err := os.Stat(mark); err == nil {
		return
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	began := time.Now()
	if err := fill.Fill(t.Context(), fill.Config{URL: url, Size: s}); err != nil {
		t.Fatalf("filling the database: %v; remove %s to begin anew", err, dir)
	}
	syscall.Sync() // what is still to be written would delay what is measured
	fmt.Printf("filled %s in %s\n", dir, time.Since(began).Round(100*time.Millisecond))
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveMuch starts the service over a database, and ends it with the test.
func serveMuch(t testing.TB, binary, url, dir string, s fill.Size) *much {
	t.Helper()
	remote := testkit.NewRemote(t)
	remote.Commit(map[string]string{"main.tf": code})
	file := filepath.Join(t.TempDir(), "waymark.hcl")
	if err := os.WriteFile(file, []byte(muchConfiguration), 0o600); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(url, "sqlite:") {
		url = "sqlite" // in the data folder
	}
	m := &much{t: t, facts: facts{runs: int64(s.Runs), entries: int64(s.Entries)}}
	m.cmd = exec.Command(binary, "serve", "--config", file)
	m.cmd.Env = append(os.Environ(), "BENCH_REMOTE="+remote.Dir, "BENCH_TOFU="+testkit.Tool(t, "tofu"), "BENCH_DATA="+dir, "BENCH_DATABASE="+url)
	began := time.Now()
	m.url = begin(t, m.cmd)
	m.began = time.Since(began)
	m.learn()
	return m
}

// learn finds what addresses are made of.
func (m *much) learn() {
	client, err := api.NewClient(api.ClientConfig{Server: m.url})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx := m.t.Context()
	for cursor := ""; len(m.facts.planned) < 20 || len(m.facts.public) < 20; {
		list, err := client.Runs(ctx, api.RunQuery{State: string(release.Succeeded), Kind: string(release.Deploy), Limit: 100, Cursor: cursor})
		if err != nil {
			m.t.Fatal(err)
		}
		for _, r := range list.Runs {
			if r.Target.Env == "dev" {
				m.facts.public = append(m.facts.public, r.ID)
			}
			if _, err := client.Plan(ctx, r.ID); err == nil {
				m.facts.planned = append(m.facts.planned, r.ID)
			}
		}
		if cursor = list.Next; cursor == "" {
			m.t.Fatal("too few runs have plans, or are public")
		}
	}
	_, _, board := m.get(page{at: fixed("/")}, facts{})
	m.facts.asset = string(regexp.MustCompile(`/assets/[^"]*\.css`).Find(board))
	var list api.ResourceList
	_, _, body := m.get(page{at: fixed("/api/v1/inventory")}, facts{})
	if err := json.Unmarshal(body, &list); err != nil || list.Next == "" || m.facts.asset == "" {
		m.t.Fatalf("no second page of the inventory, or no style sheet: %v", err)
	}
	m.facts.next = list.Next
}

// asker follows no redirects: where they lead has a line of its own.
var asker = http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// get asks once. Of a stream it takes the header, and its connection ends.
func (m *much) get(p page, f facts) (status int, took time.Duration, body []byte) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+p.at(f), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	began := time.Now()
	res, err := asker.Do(req)
	if err == nil && p.kind != stream {
		body, err = io.ReadAll(res.Body)
	}
	took = time.Since(began)
	if err != nil {
		m.t.Fatalf("%s: %v", p.at(f), err)
	}
	res.Body.Close()
	return res.StatusCode, took, body
}

// measure asks for an address again and again, from the nth time on, and gives how
// long half of the answers took at most, and 99 in 100.
func (m *much) measure(p page, n, times int) (most, all time.Duration, asked int) {
	pause := time.NewTicker(15 * time.Millisecond)
	defer pause.Stop()
	want := cmp.Or(p.want, http.StatusOK)
	var took []time.Duration
	for began := time.Now(); len(took) < times && (time.Since(began) < patience || len(took) < 3); {
		if p.kind == rated {
			<-pause.C
		}
		f := m.facts
		f.n = n + len(took)
		status, t, body := m.get(p, f)
		if status != want {
			m.t.Fatalf("%s: %s answered %d: %.300s", p.how, p.at(f), status, body)
		}
		took = append(took, t)
	}
	slices.Sort(took)
	return took[len(took)/2], took[min(len(took)-1, len(took)*99/100)], len(took)
}

// measureUnlessItStands measures once more what misses the goal while the disk stands
// still for a moment, twice at most; stood is how long one read took then.
func (m *much) measureUnlessItStands(p page, times int) (most, all time.Duration, asked int, stood time.Duration) {
	m.disk.take()
	most, all, asked = m.measure(p, 0, times)
	for again := 1; again <= 2; again++ { // elsewhere: what was read is in memory
		worst := m.disk.take()
		if most <= goalMost && all <= goalAll || worst < stall {
			break
		}
		stood = max(stood, worst)
		most, all, asked = m.measure(p, again*times, times)
	}
	return most, all, asked, stood
}

// BenchmarkMuchData measures every page and list over a full database of each kind.
func BenchmarkMuchData(b *testing.B) {
	binary := buildWaymark(b)
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			url, dir := keptDatabase(b, engine)
			filled(b, url, dir, size)
			m := serveMuch(b, binary, url, dir, size)
			m.disk = watchDisk(b, dir)
			for b.Loop() {
				m.print(engine)
			}
		})
	}
	if !asked(b, "waymark audit verify") {
		return
	}
	// It reads the API alone, and both logs are the same. It comes last: for minutes it
	// has the disk to itself, and a disk that is shared takes its time back afterwards.
	b.Run("verify", func(b *testing.B) {
		url, dir := keptDatabase(b, "sqlite")
		filled(b, url, dir, size)
		m := serveMuch(b, binary, url, dir, size)
		for b.Loop() {
			m.verify(binary)
		}
	})
}

// print measures all, and prints the table.
func (m *much) print(engine string) {
	fmt.Printf("\n%s, %s, %d processors; start %s\n", engine, size, runtime.NumCPU(), m.began.Round(time.Millisecond))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ADDRESS\tASKED FOR\tP50\tP99\tOK")
	slow := 0
	for _, p := range pages() {
		if !asked(m.t, p.how) {
			continue
		}
		f := m.facts
		most, all, asked, stood := m.measureUnlessItStands(p, *requests)
		ok := "yes"
		if most > goalMost || all > goalAll {
			ok = "NO"
			slow++
		}
		if stood > 0 {
			ok += fmt.Sprintf(" (measured again: one read of the disk took %s)", tenths(stood))
		}
		if asked < *requests {
			ok += fmt.Sprintf(" (of %d)", asked)
		}
		fmt.Fprintf(w, "%.70s\t%s\t%s\t%s\t%s\n", p.at(f), p.how, tenths(most), tenths(all), ok)
	}
	w.Flush()
	fmt.Printf("%d too slow; the goal is %s for half of the answers, and %s for 99 in 100\n", slow, goalMost, goalAll)
}

// asked reports whether something is to be measured.
func asked(t testing.TB, how string) bool {
	t.Helper()
	matched, err := regexp.MatchString(*only, how)
	if err != nil {
		t.Fatalf("-pages: %v", err)
	}
	return matched
}

func tenths(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// verify has the command line verify the audit log, and prints what that takes.
func (m *much) verify(binary string) {
	m.t.Helper()
	cmd := exec.Command(binary, "audit", "verify", "--server", m.url)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for most := "unknown"; ; {
		select {
		case <-look.C:
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)); err == nil {
				if found := regexp.MustCompile(`VmHWM:\s+(.*)`).FindSubmatch(status); found != nil {
					most = string(found[1]) // what it had at most so far
				}
			}
		case err := <-ended:
			if err != nil {
				m.t.Fatalf("audit verify: %v\n%s", err, out.Bytes())
			}
			fmt.Printf("waymark audit verify: %s, %s of memory\n%s", time.Since(began).Round(100*time.Millisecond), most, out.Bytes())
			return
		}
	}
}
