package main

import (
	"encoding/json"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/release"
)

// What the real engine writes into its state is in the inventory, with the tag that
// last changed it, until it is removed.
func TestInventoryFollowsTheState(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	const target = "dev_us-east-1/research"
	there := func() map[string]string {
		t.Helper()
		var list api.ResourceList
		if err := json.Unmarshal([]byte(w.mustCLI("inventory", target, "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, x := range list.Resources {
			out[x.Address] = x.Tag
		}
		return out
	}
	if got := there(); len(got) != 0 {
		t.Errorf("before anything: %v", got)
	}
	w.push(target + "/1.0")
	w.until(target+"/1.0", release.Succeeded)
	first := there()
	if len(first) == 0 {
		t.Fatal("an apply left nothing in the inventory")
	}
	for address, tag := range first {
		if tag != target+"/1.0" {
			t.Errorf("%s was last changed by %q", address, tag)
		}
		wantText(t, w.mustCLI("inventory", "--text", address), target, address)
	}
	w.wantExit(2, "", "inventory", "nonsense")
	w.wantExit(2, "one TARGET", "inventory", "a", "b")
}
