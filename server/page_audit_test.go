package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

func TestAuditPage(t *testing.T) {
	w := newWorld(t, nil)
	if _, body := w.do("GET", "/audit", ""); !strings.Contains(body, "There is no entry yet.") {
		t.Error("an empty log is not told")
	}
	for i := range 120 {
		if err := w.store.Log(t.Context(), audit.Entry{Action: "test.noted", Actor: fmt.Sprintf("p%d", i), Reason: evil, Details: map[string]any{"n": i}}); err != nil {
			t.Fatal(err)
		}
	}
	w.drive(w.admit("dev_us-east-1/research/1.0"), release.Succeeded)
	_, body := w.do("GET", "/audit", "")
	for _, want := range []string{"run.driven", `href="/audit?before=`, "verify.js", `aria-live="polite"`, `data-size="1`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	harmless(t, body)
	for _, c := range []struct{ query, has, hasNot string }{
		{"run=1", "run.driven", "<strong>test.noted"},
		{"action=test.*&actor=p7", "p79", "<strong>run.driven"},
		{"target=dev_us-east-1/research", "run.driven", "<strong>test.noted"},
		{"text=DEV_us-east", "run.driven", "<strong>test.noted"},
		{"before=60", `id="E59"`, `id="E60"`},
		{"entry=3", `<details id="E3" open>`, `id="E4"`},
	} {
		if _, body := w.do("GET", "/audit?"+c.query, ""); !strings.Contains(body, c.has) || strings.Contains(body, c.hasNot) {
			t.Errorf("%s: it lacks %q or has %q", c.query, c.has, c.hasNot)
		}
	}
}

func TestInventoryPage(t *testing.T) {
	w := newWorld(t, nil)
	if _, body := w.do("GET", "/inventory", ""); !strings.Contains(body, "the first apply that succeeds fills it") {
		t.Error("an empty inventory is not told")
	}
	id := w.admit("dev_us-east-1/research/1.0")
	w.drive(id, release.Running)
	_, err := w.store.Update(t.Context(), id, store.Update{Entry: audit.Entry{Action: "run.driven"},
		Change: func(*store.Record) error { return nil },
		Content: &release.StateContent{Resources: []release.Resource{
			{Address: `aws_instance.a["` + evil + `"]`, Type: "aws_instance", Provider: "registry.opentofu.org/hashicorp/aws", Mode: "managed"},
			{Address: "time_static.b", Type: "time_static", Provider: "registry.opentofu.org/hashicorp/time", Mode: "data"}}}})
	if err != nil {
		t.Fatal(err)
	}
	_, body := w.do("GET", "/inventory?provider=aws", "")
	if !strings.Contains(body, "aws_instance.a") || !strings.Contains(body, "dev_us-east-1/research/1.0") || strings.Contains(body, "time_static.b") {
		t.Error("the page does not show what was asked for")
	}
	harmless(t, body)
	list, err := w.client.Inventory(t.Context(), api.InventoryQuery{Target: "dev_us-east-1/research", Limit: 1})
	if err != nil || len(list.Resources) != 1 || list.Next == "" || list.Resources[0].RunID != "1" {
		t.Errorf("%+v, %v", list, err)
	}
	if resp, _ := w.do("GET", "/api/v1/inventory?cursor=x", ""); resp.StatusCode != 422 {
		t.Errorf("a wrong cursor: %d", resp.StatusCode)
	}
	if resp, body := w.do("GET", "/api/v1/targets/dev/us-east-1/research/resources?text=B", ""); resp.StatusCode != 200 || !strings.Contains(body, `"time_static.b"`) || strings.Contains(body, "aws_instance") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := w.do("GET", "/inventory?target=x", ""); resp.StatusCode != 422 {
		t.Errorf("no target: %d", resp.StatusCode)
	}
}
