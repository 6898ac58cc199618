package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// inventoryCode has a resource that follows the version, and one that does not.
const inventoryCode = worldCode + `
resource "terraform_data" "versioned" { input = var.release_version }
`

// What the real engine writes into its state is in the inventory, with the tag and
// the run that last changed it, until it is removed: for the command line, for the
// API and on the page.
func TestInventoryFollowsTheState(t *testing.T) {
	w := newWorld(t, `
environment "scrap" {
  regions = ["us-east-1"]
  destroy = "allow"
}
`)
	w.remote.Commit(map[string]string{"main.tf": inventoryCode})
	w.serve()
	w.contact()
	const target, it, versioned = "scrap_us-east-1/research", "terraform_data.it", "terraform_data.versioned"
	there := func(want map[string]api.Run) {
		t.Helper()
		list, err := w.client.Inventory(t.Context(), api.InventoryQuery{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, x := range list.Resources {
			got[x.Address] = x.Tag + ", run " + x.RunID
			if x.Type != "terraform_data" || x.Provider != "terraform.io/builtin/terraform" || x.Mode != "managed" || x.ChangedAt.IsZero() {
				t.Errorf("the API says %+v", x)
			}
		}
		var told api.ResourceList
		if err := json.Unmarshal([]byte(w.mustCLI("inventory", target, "-o", "json")), &told); err != nil || !slices.Equal(told.Resources, list.Resources) {
			t.Errorf("the command line says %+v, the API %+v: %v", told.Resources, list.Resources, err)
		}
		wanted := map[string]string{}
		page := w.page("/inventory?target=" + target)
		for address, r := range want {
			wanted[address] = r.Tag + ", run " + r.ID
			wantText(t, rowOf(page, address), r.Tag, `href="/runs/`+r.ID+`"`, ">builtin/terraform<")
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("the inventory has %v, want %v", got, wanted)
		}
	}
	there(nil)
	wantText(t, w.page("/inventory"), "the first apply that succeeds fills it")

	w.push(target + "/1.0")
	first := w.until(target+"/1.0", release.Succeeded)
	there(map[string]api.Run{it: first, versioned: first})
	w.push(target + "/1.1")
	second := w.until(target+"/1.1", release.Succeeded)
	if second.Changes != (api.Changes{Change: 1}) {
		t.Errorf("the second tag changes %+v", second.Changes)
	}
	there(map[string]api.Run{it: first, versioned: second})
	wantText(t, w.mustCLI("inventory", "--text", "VERSIONED"), target, versioned, target+"/1.1")

	w.mustCLI("destroy", target, "--confirm", target, "--reason", "the project is over")
	runs := w.runs()
	last := runs[len(runs)-1]
	w.await("the removal awaits approval", func() bool {
		last, _ = w.client.Run(t.Context(), last.ID)
		return last.State == api.StateAwaitingApproval
	})
	there(map[string]api.Run{it: first, versioned: second}) // nothing is removed yet
	w.mustCLI("runs", "approve", last.ID)
	w.await("the removal", func() bool { last, _ = w.client.Run(t.Context(), last.ID); return last.Ended() })
	there(nil)
	wantText(t, w.page("/inventory?target="+target), "No resource is like that")
	w.wantExit(2, "", "inventory", "nonsense")
	w.wantExit(2, "one TARGET", "inventory", "a", "b")
}

// page is what the service shows at a path to whoever needs no login.
func (w *world) page(path string) string {
	w.t.Helper()
	resp, err := http.Get(w.server + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s %v\n%s", path, resp.Status, err, body)
	}
	return string(body)
}

// rowOf is the row of a table that speaks of something.
func rowOf(page, about string) string {
	for row := range strings.SplitSeq(page, "<tr") {
		if strings.Contains(row, about) {
			return row
		}
	}
	return ""
}
