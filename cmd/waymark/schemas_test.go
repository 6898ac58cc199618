package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/waymark-cd/waymark/api"
)

// schemas are those of the audit log in docs/schemas, by file name.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	files, err := filepath.Glob("../../docs/schemas/audit-*.json")
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	out := map[string]*jsonschema.Schema{}
	var ids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		id, _ := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, doc); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		s, err := c.Compile(id)
		if err != nil {
			return nil, err
		}
		out[id[strings.LastIndexByte(id, '/')+1:]] = s
	}
	return out, nil
})

// fits holds a text against a schema.
func fits(t *testing.T, schema, text string) {
	t.Helper()
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = all[schema].Validate(doc)
	}
	if err != nil {
		t.Errorf("%s does not fit %s: %v", text, schema, err)
	}
}

// entriesFit holds every entry of the world's log against the schema, where the
// service still answers.
func (w *world) entriesFit() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own has ended
	defer cancel()
	for next := int64(0); ; {
		page, err := w.client.Audit(ctx, next, 500)
		if err != nil {
			w.t.Logf("the entries cannot be held against their schema: %v", err)
			return
		}
		if len(page.Entries) == 0 {
			return
		}
		for _, e := range page.Entries {
			fits(w.t, "audit-entry.v1.json", e.Leaf)
			if !strings.Contains(e.Leaf, `"version":1`) {
				w.t.Errorf("no version: %s", e.Leaf)
			}
		}
		next = page.Next
	}
}

func TestSchemasRefuseWhatIsWrong(t *testing.T) {
	all, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	const good = `{"version":1,"at":"2026-01-02T02:04:05.678Z","actor":"ann","action":"run.approved","run_id":"7","details":{"serial_before":3}}`
	fits(t, "audit-entry.v1.json", good)
	for _, change := range [][2]string{{`:1,`, `:2,`}, {`"actor":"ann",`, ``}, {`.678Z`, `.678+01:00`}, {`"7"`, `7`}, {`run.approved`, `Approved`}, {`:3`, `:"3"`}} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(good, change[0], change[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if all["audit-entry.v1.json"].Validate(doc) == nil {
			t.Errorf("with %s it fits too", change[1])
		}
	}
}

// TestEntriesSayWhatAnApplyRestsOn: who approved which plan, on which state, and
// what the state was after.
func TestEntriesSayWhatAnApplyRestsOn(t *testing.T) {
	w := newWorld(t, "")
	w.serve()
	w.contact()
	w.push("staging_us-east-1/research/1.0")
	r := w.until("staging_us-east-1/research/1.0", "awaiting_approval")
	w.mustCLI("runs", "approve", r.ID)
	r = w.until("staging_us-east-1/research/1.0", "succeeded")
	found := map[string]api.AuditEntry{}
	for _, e := range w.entries() {
		found[e.Action] = e
	}
	for _, action := range []string{"run.apply_started", "run.succeeded"} {
		e := found[action]
		by, _ := e.Details["approved_by"].([]any)
		if e.Details["plan_digest"] != r.PlanDigest || len(by) != 1 || by[0] != "local" || e.Details["serial_before"] != 0.0 ||
			e.RunID != r.ID || e.Tag != r.Tag || e.ObjectID == "" || e.Commit != r.Commit {
			t.Errorf("%s: %s", action, e.Leaf)
		}
	}
	if after, _ := found["run.succeeded"].Details["serial_after"].(float64); after < 1 || found["run.succeeded"].Details["lineage"] == "" {
		t.Errorf("%s", found["run.succeeded"].Leaf)
	}
	if r.PlanDigest == "" {
		t.Error("the run has no plan's digest")
	}
}
