package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// newReplicas is the service of instance "a" of several. That they would not share
// a file makes no difference to the record.
func newReplicas(t *testing.T) *cliWorld {
	t.Helper()
	return newCLIWorld(t, func(c *server.Config) {
		records := c.Store
		c.Self, c.ConfigDigest = "a", "d1"
		c.Drain = func(ctx context.Context, id string, undo bool, actor, reason string) error {
			return records.SetDraining(ctx, id, !undo, audit.Entry{Actor: actor, Action: fmt.Sprintf("undo:%v", undo), Reason: reason})
		}
	})
}

func (w *cliWorld) join(id, name, digest string) {
	w.t.Helper()
	err := w.store.Join(w.t.Context(), store.Instance{ID: id, Name: name, Host: "h" + hostile, Pool: "euc1,default",
		Roles: []string{"controller", "worker"}, Version: "1.2.3", ConfigDigest: digest})
	if err != nil {
		w.t.Fatal(err)
	}
}

// start begins a run in an instance's hand, and returns what ends it.
func (w *cliWorld) start(tag, worker string) (end func()) {
	w.t.Helper()
	id, err := w.store.Run(w.t.Context(), mustID(w.t, w.add(tag, release.Queued)))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, began, err := w.store.Start(w.t.Context(), id.ID, worker); err != nil || !began {
		w.t.Fatal(began, err)
	}
	return func() {
		if _, err := w.store.Update(w.t.Context(), id.ID, store.Update{Entry: audit.Entry{Action: "run.driven"},
			Change: func(r *store.Record) error { r.State = release.Succeeded; return nil }}); err != nil {
			w.t.Error(err)
		}
	}
}

func mustID(t *testing.T, text string) (id int64) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &id); err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *cliWorld) beat(id string) {
	w.t.Helper()
	if _, err := w.store.Beat(w.t.Context(), id); err != nil {
		w.t.Error(err)
	}
}

// onLook calls step, with how often it was called before, whenever a command is
// about to look at the instances.
func (w *cliWorld) onLook(step func(look int)) (looks *int) {
	w.t.Helper()
	target, err := url.Parse(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	looks = new(int)
	proxy := httputil.NewSingleHostReverseProxy(target)
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			step(*looks)
			*looks++
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(h.Close)
	w.env["WAYMARK_SERVER"] = h.URL
	return looks
}

func TestInstancesAreListed(t *testing.T) {
	w := newReplicas(t)
	if stdout, _, code := w.run("instances"); code != 0 || !strings.HasPrefix(stdout, "No instance is on record. ") {
		t.Errorf("before anybody joined: exit %d, %q", code, stdout)
	}
	w.join("a", "east", "d1")
	w.join("b", "west", "d2"+strings.Repeat("0", 62))
	w.start("dev_us-east-1/research@1.0", "b")
	stdout, stderr, code := w.run("instances")
	lines := strings.Split(stdout, "\n")
	if code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[0], "NAME  STATE  SEEN      RUNS  ROLES              POOLS         VERSION  CONFIG ") ||
		!strings.HasPrefix(lines[1], "east  alive  just now  0     controller,worker  euc1,default  1.2.3    d1  ") ||
		!strings.HasPrefix(lines[2], "west  alive  just now  1     controller,worker  euc1,default  1.2.3    d200000000 differs  ") ||
		!strings.HasSuffix(lines[2], "  b") {
		t.Errorf("exit %d\n%s", code, stdout)
	}
	if !strings.Contains(stderr, "configurations differ from that of the instance that answers, d1:") {
		t.Errorf("stderr %q", stderr)
	}
	stdout, _, _ = w.run("instances", "-o", "json")
	var list api.InstanceList
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list.Instances) != 2 || list.Self != "a" || list.Instances[1].RunsInHand != 1 {
		t.Errorf("json: %v in %s", err, stdout)
	}
	if err := w.store.Leave(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ = w.run("instances")
	if !strings.Contains(stdout, "west  stopped") || stderr != "" {
		t.Errorf("once the other has stopped:\n%s%s", stdout, stderr)
	}
}

func TestDrainFindsItsInstance(t *testing.T) {
	w := newReplicas(t)
	if _, stderr, code := w.run("drain"); code != exitNotFound || !strings.Contains(stderr, `instance "a": not found: it never joined`) {
		t.Errorf("before anybody joined: exit %d, %s", code, stderr)
	}
	w.join("a", "east", "d1")
	w.join("b", "west", "d1")
	w.join("c", "twin", "d1")
	w.join("d", "twin", "d1")
	w.join("e", "old", "d1")
	w.join("f", "old", "d1")
	w.join("g", "west-2", "d1")
	for _, id := range []string{"e", "g"} {
		if err := w.store.Leave(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line string
		code int
		says string
		now  string // whose state changed last
	}{
		{"drain", 0, "east is draining, 0 runs in hand", "a"},
		{"drain --undo", 0, "east is alive, 0 runs in hand", "a"},
		{"drain west --reason upgrade", 0, "west is draining", "b"},
		{"drain b --undo", 0, "west is alive", "b"},
		{"drain old", 0, "old is draining", "f"}, // the other one has stopped
		{"drain twin", 2, `2 instances are called "twin": write the id of one: c, d`, ""},
		{"drain d", 0, "twin is draining", "d"},
		{"drain wets", 3, `instance "wets" not found: did you mean "west"?`, ""},
		{"drain west-2", 3, `it never joined or has left`, ""},
		{"drain a b", 2, "one INSTANCE or none", ""},
		{"drain --undo --wait", 2, "--wait waits", ""},
		{"drain --reason " + strings.Repeat("x", 1001), 2, "reason", ""},
	} {
		before := w.actions()
		stdout, stderr, code := w.run(strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("waymark %s: exit %d, want %d, saying %q: %s%s", c.line, code, c.code, c.says, stdout, stderr)
		}
		want := before
		if c.now != "" {
			want = append(want, fmt.Sprintf("undo:%v %s", strings.Contains(c.line, "--undo"), c.now))
		}
		if got := w.actions(); !slices.Equal(got, want) {
			t.Errorf("waymark %s: entries %v, want %v", c.line, got, want)
		}
	}
	stdout, _, _ := w.run("drain", "west", "-o", "json")
	var i api.Instance
	if err := json.Unmarshal([]byte(stdout), &i); err != nil || i.ID != "b" || i.State != api.InstanceDraining {
		t.Errorf("json: %v in %s", err, stdout)
	}
}

// actions lists the entries about instances, each with its instance.
func (w *cliWorld) actions() []string {
	w.t.Helper()
	page, err := w.store.Entries(context.Background(), 0, 500)
	if err != nil {
		w.t.Fatal(err)
	}
	out := []string{}
	for _, e := range page {
		if id, ok := e.Details["instance"].(string); ok {
			out = append(out, e.Action+" "+id)
		}
	}
	return out
}

// An instance hears that it drains at its next sign of life: until then it may
// take a run, for which a wait must not be too early.
func TestDrainWaits(t *testing.T) {
	w := newReplicas(t)
	w.join("a", "east", "d1")
	var end func()
	looks := w.onLook(func(look int) {
		switch look { // the first is for the instance's id, before it is told
		case 1:
			end = w.start("dev_us-east-1/research@1.0", "a") // not heard yet
		case 2, 3, 4:
			w.beat("a")
		case 5:
			end()
		}
	})
	stdout, stderr, code := w.run("drain", "--wait")
	if code != 0 || stdout != "east is draining, 0 runs in hand\n" || *looks != 6 {
		t.Errorf("exit %d after %d looks: %s%s", code, *looks, stdout, stderr)
	}
	if want := "east is draining, 0 runs in hand\neast is draining, 1 run in hand\n"; stderr != want {
		t.Errorf("progress %q, want %q", stderr, want)
	}
}

func TestDrainDoesNotWaitForever(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *cliWorld)
		code   int
		says   string
	}{
		"it stops": {func(w *cliWorld) {
			if err := w.store.Leave(w.t.Context(), "b"); err != nil {
				w.t.Error(err)
			}
		}, exitDone, "west is stopped, 0 runs in hand"},
		"it starts anew": {func(w *cliWorld) { w.join("b", "west", "d1") }, exitConflict, "west takes work again"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newReplicas(t)
			w.join("b", "west", "d1")
			w.onLook(func(look int) {
				if look == 1 {
					c.change(w)
				}
			})
			if stdout, stderr, code := w.run("drain", "west", "--wait"); code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit %d, want %d, saying %q: %s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
}

// TestServiceDrainsItself holds the wiring: the service finds itself on record.
func TestServiceDrainsItself(t *testing.T) {
	w := newWorld(t, "")
	w.env["WORLD_DATABASE"] = testkit.Postgres(t)
	w.serve()
	w.contact()
	wantText(t, w.mustCLI("instances"), "alive", "just now", versionText())
	wantText(t, w.mustCLI("drain", "--reason", "upgrade"), "is draining, 0 runs in hand")
	wantText(t, w.mustCLI("instances"), "draining")
	wantText(t, w.mustCLI("drain", "--undo"), "is alive")
	for _, e := range w.entries() {
		if e.Action == "instance.drained" && (e.Reason != "upgrade" || e.Actor != "local") {
			t.Errorf("entry %+v", e)
		}
	}
	if actions := w.actions(); !slices.Contains(actions, "instance.drained") || !slices.Contains(actions, "instance.undrained") {
		t.Errorf("entries %v", actions)
	}
}

func TestTheOnlyInstanceDoesNotDrain(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	if code, _, stderr := w.cli("drain", "--wait"); code != exitRefused || !strings.Contains(stderr, "stop it instead") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
