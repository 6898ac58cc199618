package policies

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestRego runs the tests that are written in Rego beside the rules.
func TestRego(t *testing.T) {
	files, err := filepath.Glob("rego/*.rego")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]*ast.Module{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if formatted, err := format.Source(file, text); err != nil || string(formatted) != string(text) {
			t.Errorf("%s is not formatted as opa fmt does it: %v", file, err)
		}
		if modules[file], err = ast.ParseModule(file, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	var types any
	if err := json.Unmarshal(databearing, &types); err != nil {
		t.Fatal(err)
	}
	store := inmem.NewFromObject(map[string]any{"waymark": map[string]any{"databearing": types}})
	txn, err := store.NewTransaction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Abort(t.Context(), txn)
	ran, err := tester.NewRunner().RaiseBuiltinErrors(true).SetStore(store).SetModules(modules).RunTests(t.Context(), txn)
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for result := range ran {
		if !result.Pass() {
			t.Errorf("%s", result)
			continue
		}
		passed++
	}
	if passed < 35 {
		t.Errorf("%d tests in Rego passed; the rest is missing or failed", passed)
	}
}
