package server_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// asA is the server of instance "a", which drains for real.
func asA(c *server.Config) {
	c.Self, c.ConfigDigest, c.Heartbeat = "a", "d1"+strings.Repeat("0", 62), 10*time.Second
	records := c.Store
	c.Drain = func(ctx context.Context, id string, undo bool, actor, reason string) error {
		return records.SetDraining(ctx, id, !undo, audit.Entry{Actor: actor, Action: "instance.drained", Reason: reason,
			Details: map[string]any{"undo": undo}})
	}
}

// join puts an instance on record.
func (w *world) join(id, name, digest string) {
	w.t.Helper()
	err := w.store.Join(w.t.Context(), store.Instance{ID: id, Name: name, Host: "host-" + id, Pool: "default,euc1",
		Roles: []string{"api", "worker"}, Version: "1.2.3", ConfigDigest: digest + strings.Repeat("0", 62)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// silence makes an instance's last beat as old as age.
func (w *world) silence(id string, age time.Duration) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(w.t.Context(), "UPDATE instances SET beat_at = beat_at - ? WHERE id = ?", age.Milliseconds(), id); err != nil {
		w.t.Fatal(err)
	}
}

// instance asks for one instance over the wire.
func (w *world) instance(id string) api.Instance {
	w.t.Helper()
	list, err := w.client.Instances(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(list.Instances, func(i api.Instance) bool { return i.ID == id })
	if i < 0 {
		w.t.Fatalf("no instance %q among %+v", id, list.Instances)
	}
	return list.Instances[i]
}

func TestInstancesOverTheWire(t *testing.T) {
	w := newWorld(t, asA)
	if list, err := w.client.Instances(t.Context()); err != nil || list.Instances == nil || len(list.Instances) != 0 || list.Self != "a" {
		t.Errorf("before anybody joined: %+v, %v", list, err)
	}
	w.join("a", "east", "d1")
	w.join("b", "west", "d2")
	id := w.admit("dev_us-east-1/research/1.0")
	if _, began, err := w.store.Start(t.Context(), id, "b"); err != nil || !began {
		t.Fatal(began, err)
	}
	got := w.instance("b")
	if got.BeatAge < 0 || got.BeatAge > 5000 || got.BeatAt.IsZero() || got.StartedAt.IsZero() {
		t.Errorf("times of %+v", got)
	}
	got.BeatAge, got.BeatAt, got.StartedAt = 0, time.Time{}, time.Time{}
	want := api.Instance{ID: "b", Name: "west", Host: "host-b", Roles: []string{"api", "worker"}, Pools: []string{"default", "euc1"},
		Version: "1.2.3", ConfigDigest: "d2" + strings.Repeat("0", 62), State: api.InstanceAlive, RunsInHand: 1}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	w.silence("b", 9*time.Second)
	if got := w.instance("b"); got.State != api.InstanceAlive {
		t.Errorf("just before the heartbeat has passed: %+v", got)
	}
	w.silence("b", 2*time.Second)
	if got := w.instance("b"); got.State != api.InstanceDead || got.BeatAge < 11000 || got.RunsInHand != 1 {
		t.Errorf("after the heartbeat: %+v", got)
	}
	if err := w.store.Leave(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := w.instance("b"); got.State != api.InstanceStopped || got.StoppedAt.IsZero() {
		t.Errorf("after leaving: %+v", got)
	}
	_, body := w.do("GET", "/api/v1/instances", "")
	var names map[string]any
	if err := json.Unmarshal([]byte(body), &names); err != nil {
		t.Fatal(err)
	}
	first := names["instances"].([]any)[0].(map[string]any)
	for _, name := range []string{"id", "name", "host", "roles", "pools", "version", "config_digest", "state", "runs_in_hand",
		"started_at", "beat_at", "beat_age_ms"} {
		if _, ok := first[name]; !ok {
			t.Errorf("an instance has no %q: %s", name, body)
		}
	}
}

func TestDrain(t *testing.T) {
	for _, c := range []struct{ token, actor string }{{"", "local"}, {"tok", "token"}} {
		w := newWorld(t, func(cfg *server.Config) { asA(cfg); cfg.Token = c.token })
		w.join("a", "east", "d1")
		for _, undo := range []bool{false, true} {
			got, err := w.client.Drain(t.Context(), "a", api.Drain{Undo: undo, Reason: " upgrade "})
			if want := map[bool]string{false: api.InstanceDraining, true: api.InstanceAlive}[undo]; err != nil || got.State != want || got.ID != "a" {
				t.Errorf("undo %v: %+v, %v", undo, got, err)
			}
			page, err := w.store.Entries(t.Context(), 0, 10)
			last := page[len(page)-1]
			if err != nil || last.Actor != c.actor || last.Reason != "upgrade" || last.Details["instance"] != "a" || last.Details["undo"] != undo {
				t.Errorf("undo %v left %+v, %v", undo, last, err)
			}
		}
		if resp, body := w.do("POST", "/api/v1/instances/a/drain", "", "X-Waymark-Request", "1", "Authorization", "Bearer "+c.token); resp.StatusCode != 200 ||
			w.instance("a").State != api.InstanceDraining {
			t.Errorf("without a body: %d %s", resp.StatusCode, body)
		}
		_, err := w.client.Drain(t.Context(), "a/../b", api.Drain{})
		var p *api.Problem
		if !errors.As(err, &p) || p.Code != api.CodeNotFound {
			t.Errorf("an instance that never joined: %v", err)
		}
		if _, err := w.client.Drain(t.Context(), "a", api.Drain{Reason: strings.Repeat("x", 1001)}); !errors.As(err, &p) || p.Code != api.CodeInvalid {
			t.Errorf("a reason without end: %v", err)
		}
	}
}

func TestDrainIsClosed(t *testing.T) {
	w := newWorld(t, func(c *server.Config) { asA(c); c.Token = "tok" })
	w.join("a", "east", "d1")
	for _, c := range []struct {
		header []string
		want   int
	}{
		{[]string{"Content-Type", "application/json"}, 401},
		{[]string{"Authorization", "Bearer tok"}, 415},
		{[]string{"Authorization", "Bearer tok", "Content-Type", "application/json", "Origin", "https://evil.example"}, 403},
	} {
		if resp, _ := w.do("POST", "/api/v1/instances/a/drain", "{}", c.header...); resp.StatusCode != c.want || w.instance("a").State != api.InstanceAlive {
			t.Errorf("%q: %d, want %d", c.header, resp.StatusCode, c.want)
		}
	}
	if resp, _ := w.do("POST", "/api/v1/instances/a/drain", `{"undoo":true}`, "Authorization", "Bearer tok", "Content-Type", "application/json"); resp.StatusCode != 422 {
		t.Errorf("a misspelt member: %d", resp.StatusCode)
	}
	w = newWorld(t, nil)
	var p *api.Problem
	if _, err := w.client.Drain(t.Context(), "a", api.Drain{}); !errors.As(err, &p) || p.Code != api.CodeUnavailable {
		t.Errorf("a service that cannot drain: %v", err)
	}
}

func TestBoardShowsInstances(t *testing.T) {
	w := newWorld(t, asA)
	board := func() string {
		_, body := w.do("GET", "/", "")
		harmless(t, body)
		return body
	}
	w.join("a", "east", "d1")
	if strings.Contains(board(), "Instances") {
		t.Error("the board shows the only instance")
	}
	w.join("b", "west"+evil, "d1")
	page := board()
	for _, want := range []string{`<h2 id="instances">`, "this one", "default, euc1", "api, worker", "d100000000", "seen just now"} {
		if !strings.Contains(page, want) {
			t.Errorf("the board lacks %q", want)
		}
	}
	if strings.Contains(page, "different configurations") || strings.Contains(page, "another than here") || strings.Contains(page, "sign of life") {
		t.Error("the board finds fault where there is none")
	}
	w.join("b", "west", "d2")
	page = board()
	if !strings.Contains(page, "read 2 different configurations") || strings.Count(page, "another than here") != 1 ||
		strings.Index(page, "another than here") < strings.Index(page, "west") {
		t.Error("the board does not say whose configuration is another")
	}
	w.silence("b", time.Minute)
	page = board()
	if !strings.Contains(page, "1 without a sign of life") || strings.Contains(page, "different configurations") || !strings.Contains(page, "seen 1m ago") {
		t.Error("the board does not tell the dead from the living")
	}
	if err := w.store.Leave(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(board(), "Instances") {
		t.Error("the board shows an instance that has stopped")
	}
}

func TestInstanceMetrics(t *testing.T) {
	w := newWorld(t, asA)
	w.join("a", "east", "d1")
	w.join("b", "west\xff\"\n", "d2")
	w.join("c", "south", "d1")
	w.join("d", "north", "d1")
	w.silence("c", time.Minute)
	if err := errors.Join(w.store.Leave(t.Context(), "d"), w.store.SetDraining(t.Context(), "a", true, audit.Entry{Action: "x"})); err != nil {
		t.Fatal(err)
	}
	_, body := w.do("GET", "/metrics", "")
	zeros := strings.Repeat("0", 62)
	for _, line := range []string{
		`waymark_instance_info{config_digest="d1` + zeros + `",id="a",name="east",pool="default,euc1",roles="api,worker",version="1.2.3"} 1`,
		`waymark_instance_info{config_digest="d2` + zeros + `",id="b",name="west` + "\uFFFD" + `\"\n",pool="default,euc1",roles="api,worker",version="1.2.3"} 1`,
		`waymark_instances{state="alive"} 1`, `waymark_instances{state="draining"} 1`,
		`waymark_instances{state="dead"} 1`, `waymark_instances{state="stopped"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("metrics lack %s:\n%s", line, body)
		}
	}
	if n := strings.Count(body, "waymark_instance_info{"); n != 2 {
		t.Errorf("%d instances are told of, not the two that live", n)
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	resp, body := w.do("GET", "/metrics", "")
	if resp.StatusCode != 200 || !strings.Contains(body, "waymark_http_requests_total") || strings.Contains(body, "waymark_instances{") {
		t.Errorf("without a database: %d %s", resp.StatusCode, body)
	}
	if !strings.Contains(w.log.String(), "instances cannot be counted") {
		t.Error("the log does not say why figures are missing")
	}
}
