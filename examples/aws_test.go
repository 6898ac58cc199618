package examples_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/internal/testkit"
)

var update = flag.Bool("update", false, "write examples/aws/policies anew")

type object = map[string]any

// What the documents of examples/aws/policies are rendered with.
const (
	tooling    = "999900001111"
	research   = "111111111111" // in dev
	risk       = "222222222222" // in dev
	production = "777777777777" // research in prod
	externalID = "example-waymark"
)

func toolingVariables() object {
	return object{"account": tooling, "external_id": externalID,
		"environments": object{"dev": []string{research, risk}, "prod": []string{production, "888888888888"}}}
}

func workloadVariables() object {
	return object{"account": research, "tooling_account": tooling, "env": "dev", "teams": []string{"research"},
		"regions": []string{"us-east-1", "eu-central-1", "ap-southeast-1"}}
}

// engine runs one command of a real engine in dir, with an environment made of
// nothing but what it cannot do without.
func engine(t *testing.T, tool, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + t.TempDir(), "TF_CLI_CONFIG_FILE=" + os.DevNull, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(tool), strings.Join(args, " "), err, out, &stderr)
	}
	return out
}

// render validates a module of examples/aws, applies it with the variables and
// returns its outputs. The module needs no provider and has no resource.
func render(t *testing.T, kind, module string, variables object) map[string]string {
	t.Helper()
	tool, dir := testkit.Tool(t, kind), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("aws", "modules", module))); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(variables)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "terraform.tfvars.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	engine(t, tool, dir, "init", "-input=false")
	engine(t, tool, dir, "validate")
	engine(t, tool, dir, "apply", "-input=false", "-auto-approve")
	var outputs map[string]struct{ Value string }
	if err := json.Unmarshal(engine(t, tool, dir, "output", "-json"), &outputs); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, o := range outputs {
		out[name] = o.Value
	}
	return out
}

// documents are the rendered policies by the name of their file.
func documents(t *testing.T, kind string) map[string]string {
	t.Helper()
	own, theirs := render(t, kind, "tooling-policies", toolingVariables()), render(t, kind, "workload-policies", workloadVariables())
	return map[string]string{
		"service.json": own["service_policy"], "operator.json": own["operator_policy"],
		"run-trust.json": own["run_trust_policy"], "run.json": own["run_policy"],
		"queue.json": own["queue_policy"], "event-pattern.json": own["event_pattern"],
		"workload-trust.json": theirs["trust_policy"], "workload-build.json": theirs["build_policy"],
	}
}

// indented is the document as a file that people read.
func indented(t *testing.T, document string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(document), &v); err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The documents that people copy are those that the modules render, with each
// engine.
func TestThePoliciesAreWhatTheModulesRender(t *testing.T) {
	for _, kind := range []string{"tofu", "terraform-1.5"} {
		t.Run(kind, func(t *testing.T) {
			var names []string
			for name, document := range documents(t, kind) {
				names = append(names, name)
				path, want := filepath.Join("aws", "policies", name), indented(t, document)
				if *update {
					if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != want {
					t.Errorf("%s is not what the module renders: run go test ./examples -update, and read the change (%v)", path, err)
				}
			}
			slices.Sort(names)
			if there := files(t, "aws/policies"); !slices.Equal(there, names) {
				t.Errorf("aws/policies has %q, and the modules render %q", there, names)
			}
		})
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// statement is one of an IAM document; a name that IAM does not know is an error.
type statement struct {
	Sid, Effect                 string
	Principal, Action, Resource oneOrMany
	Condition                   map[string]map[string]oneOrMany
}

type oneOrMany []string

// UnmarshalJSON takes a string, a list of them, or an object with such values.
func (m *oneOrMany) UnmarshalJSON(text []byte) error {
	switch text[0] {
	case '"':
		*m = make(oneOrMany, 1)
		return json.Unmarshal(text, &(*m)[0])
	case '{':
		var by map[string]oneOrMany
		err := json.Unmarshal(text, &by)
		for _, values := range by {
			*m = append(*m, values...)
		}
		return err
	}
	return json.Unmarshal(text, (*[]string)(m))
}

// Every document is one of IAM, fits into its place, and is no wider than it
// says: a star for a whole resource, action or principal needs a reason.
func TestThePoliciesAreNarrow(t *testing.T) {
	// Creating a network, and describing anything, knows no resource.
	anyResource := []string{"Network", "SeeLoadBalancers"}
	limit := map[string]int{"run-trust.json": 2048, "workload-trust.json": 2048, "operator.json": 6144, "queue.json": 10240}
	for _, name := range files(t, "aws/policies") {
		if name == "event-pattern.json" {
			continue // no policy
		}
		text, err := os.ReadFile(filepath.Join("aws", "policies", name))
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Version   string
			Statement []statement
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&doc); err != nil || doc.Version != "2012-10-17" || len(doc.Statement) == 0 {
			t.Errorf("%s: version %q, %d statements, %v", name, doc.Version, len(doc.Statement), err)
		}
		most := 10240 // of all policies inside one role
		if n, ok := limit[name]; ok {
			most = n
		}
		if n := len(strings.Join(strings.Fields(string(text)), "")); n > most {
			t.Errorf("%s has %d characters, and IAM takes %d", name, n, most)
		}
		var sids []string
		for _, s := range doc.Statement {
			sids = append(sids, s.Sid)
			if s.Effect == "Allow" {
				for _, problem := range wide(s, slices.Contains(anyResource, s.Sid), strings.Contains(name, "trust")) {
					t.Errorf("%s: %s: %s", name, s.Sid, problem)
				}
			}
		}
		slices.Sort(sids)
		if len(slices.Compact(slices.Clone(sids))) != len(sids) || slices.Contains(sids, "") {
			t.Errorf("%s: the statements are called %q", name, sids)
		}
	}
}

// wide says in which ways a statement allows more than it should.
func wide(s statement, anyResource, trust bool) (problems []string) {
	for _, a := range s.Action {
		if service, name, ok := strings.Cut(a, ":"); !ok || service == "*" || strings.HasPrefix(name, "*") {
			problems = append(problems, fmt.Sprintf("action %q", a))
		} else if strings.Contains(name, "*") && name != "Describe*" {
			problems = append(problems, fmt.Sprintf("action %q", a))
		}
	}
	for _, r := range s.Resource {
		if parts := strings.SplitN(r, ":", 6); len(parts) != 6 || strings.HasPrefix(parts[5], "*") || strings.HasSuffix(parts[5], "/*") && parts[2] != "elasticloadbalancing" {
			if !anyResource || r != "*" {
				problems = append(problems, fmt.Sprintf("resource %q", r))
			}
		}
	}
	if anyResource && s.Condition["StringEquals"]["aws:RequestedRegion"] == nil {
		problems = append(problems, "any resource in any Region")
	}
	if slices.Contains(s.Principal, "*") || trust && (len(s.Principal) == 0 || len(s.Condition) == 0) {
		problems = append(problems, fmt.Sprintf("principal %q without a condition", s.Principal))
	}
	return problems
}

func TestWide(t *testing.T) {
	narrow := statement{Action: oneOrMany{"s3:GetObject"}, Resource: oneOrMany{"arn:aws:s3:::b/k"}}
	for what, s := range map[string]statement{
		"any action":          {Action: oneOrMany{"*"}, Resource: narrow.Resource},
		"a service's actions": {Action: oneOrMany{"s3:*"}, Resource: narrow.Resource},
		"a group of actions":  {Action: oneOrMany{"s3:Put*"}, Resource: narrow.Resource},
		"any resource":        {Action: narrow.Action, Resource: oneOrMany{"*"}},
		"any bucket":          {Action: narrow.Action, Resource: oneOrMany{"arn:aws:s3:::*"}},
		"any role":            {Action: narrow.Action, Resource: oneOrMany{"arn:aws:iam::111111111111:role/*"}},
		"anybody":             {Action: narrow.Action, Resource: narrow.Resource, Principal: oneOrMany{"*"}},
	} {
		if len(wide(s, false, false)) != 1 {
			t.Errorf("%s: %q", what, wide(s, false, false))
		}
	}
	if p := wide(narrow, false, false); p != nil {
		t.Errorf("%q", p)
	}
}
