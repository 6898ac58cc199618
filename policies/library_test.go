package policies

import (
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
)

// TestCheck is the table of what an operator's files may not be, each with the
// place that is named.
func TestCheck(t *testing.T) {
	good := []string{"plan.rego", "package plan\nimport data.lib.x\ndeny contains \"m\" if x.y"}
	for name, c := range map[string]struct {
		files []string
		want  string // empty: nothing
	}{
		"helpers":               {append(good, "lib/x.rego", "package lib.x\ny := true"), ""},
		"data":                  {append(good, "x/data.json", `{"a": 1}`, "b.yaml", "b: [1]", "c.yml", "c: {d: 1}"), ""},
		"data beside rules":     {append(good, "a.json", `{"l": {"x": 1}}`, "b.json", `{"l": {"y": 1}}`), ""},
		"tests are not counted": {append(good, "x_test.rego", "package anything_test\ntest_x if true"), ""},

		"no Rego":             {[]string{"plan.rego", "package plan\n\ndeny contains {"}, "policies/plan.rego:3: "},
		"an empty file":       {[]string{"plan.rego", " \n"}, "policies/plan.rego: "},
		"an unknown function": {[]string{"plan.rego", "package plan\ndeny contains \"m\" if {\n\tnothing(1)\n}"}, "policies/plan.rego:3: undefined function nothing"},
		"the network":         {[]string{"plan.rego", "package plan\ndeny contains \"m\" if http.send({}).status_code == 200"}, "policies/plan.rego:2: undefined function http.send"},
		"names":               {[]string{"plan.rego", "package plan\ndeny contains \"m\" if net.lookup_ip_addr(\"x\")"}, "policies/plan.rego:2: undefined function net.lookup_ip_addr"},
		"the environment":     {[]string{"plan.rego", "package plan\ndeny contains \"m\" if opa.runtime().env.HOME"}, "policies/plan.rego:2: undefined function opa.runtime"},
		"a type error":        {[]string{"plan.rego", "package plan\n\ndeny contains \"m\" if 1 + \"a\" == 2"}, "policies/plan.rego:3: "},
		"an unused import":    {[]string{"plan.rego", "package plan\nimport data.lib.x\ndeny contains \"m\""}, "policies/plan.rego:2: "},
		"no package of ours":  {append(good, "x.rego", "package main\ndeny contains \"m\""), "policies/x.rego:1: nothing asks the package main: write package tag, config or plan, or lib.<name>"},
		"beneath a point":     {append(good, "x.rego", "package plan.more\ndeny contains \"m\""), "policies/x.rego:1: nothing asks the package plan.more"},
		"Waymark's own":       {append(good, "x.rego", "package waymark.plan\nfindings contains 1 if false"), "policies/x.rego:1: the package waymark.plan is Waymark's own"},
		"Waymark's settings":  {append(good, "x.rego", "package waymark\nsettings := {}"), "policies/x.rego:1: the package waymark is Waymark's own"},
		"Waymark's in a test": {append(good, "x_test.rego", "package waymark.settings\nproviders := []"), "policies/x_test.rego:1: the package waymark.settings is Waymark's own"},
		"Waymark's data":      {append(good, "x.json", `{"waymark": {"settings": {"providers": []}}}`), "policies/x.json: puts data at data.waymark"},
		"Waymark's folder":    {append(good, "waymark/x.json", `{"settings": 1}`), "policies/waymark/x.json: puts data at data.waymark"},
		"data among rules":    {append(good, "plan/x.json", `{"deny": []}`), "policies/plan/x.json: puts data at data.plan"},
		"data over a rule":    {append(good, "lib/x.rego", "package lib.x\ny := true", "lib/x/d.json", `{"y": 1}`), "policies/lib/x.rego:2: "},
		"data twice":          {append(good, "a.json", `{"l": {"x": 1}}`, "b.yaml", "l: {x: 2}"), "policies/b.yaml: says data.l.x, which another file has said"},
		"broken JSON":         {append(good, "a.json", "{\n\"a\": }"), "policies/a.json:2: cannot be read as data"},
		"JSON and more":       {append(good, "a.json", "{} {}"), "policies/a.json: cannot be read as data: something follows"},
		"broken YAML":         {append(good, "a.yaml", "a: [1"), "policies/a.yaml: cannot be read as data"},
		"a list":              {append(good, "a.json", "[]"), "policies/a.json: is no object at its top"},
		"no rule at all":      {[]string{"plan.rego", "package plan\ndenied contains \"m\""}, "policies/plan.rego:1: the package plan has no deny, warn or require_approval"},
		"a bool":              {[]string{"plan.rego", "package plan\n\ndeny if true"}, "policies/plan.rego:3: deny must be a set of results: write deny contains"},
		"a value":             {[]string{"plan.rego", "package plan\nwarn := [\"m\"]"}, "policies/plan.rego:2: warn must be a set of results"},
		"a map":               {[]string{"plan.rego", "package plan\ndeny[\"m\"] := 1 if true"}, "policies/plan.rego:2: deny must be a set of results"},
		"the older language":  {[]string{"plan.rego", "package plan\ndeny[msg] { msg := \"m\" }"}, "policies/plan.rego:2: "},
		"another file":        {append(good, "x.txt", "x"), "policies/x.txt: is neither Rego nor data"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := Check(rules(c.files...))
			switch {
			case c.want == "" && len(problems) == 0:
			case c.want == "" || len(problems) == 0:
				t.Errorf("got %v, want %q", problems, c.want)
			case !strings.HasPrefix(problems[0].String(), c.want):
				t.Errorf("got %v, want %q", problems, c.want)
			}
			if _, err := New(t.Context(), release.PolicySpec{Files: rules(c.files...)}); c.want == "" && err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTestsOfUsers(t *testing.T) {
	files := rules("plan.rego", "package plan\nimport data.waymark.lib\ndeny contains c.address if some c in input.resource_changes\nwarn contains \"w\" if lib.hidden(input.x)",
		"plan_test.rego", `package plan_test
import data.plan
test_denies if plan.deny == {"a.b"} with input as {"resource_changes": [{"address": "a.b"}]}
test_wrong if {
	print("look here")
	count(plan.deny) == 7 with input as {"resource_changes": []}
}
test_own_data if data.names == ["ann"]
test_library if plan.warn == {"w"} with input as {"x": "(sensitive)"}
todo_test_later if false
test_network if http_is_away
http_is_away if true
`, "names.json", `{"names": ["ann"]}`)
	results, problems, err := Test(t.Context(), release.PolicySpec{Files: files})
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	var got []string
	for _, r := range results {
		word := "fail"
		if r.Passed {
			word = "pass"
		} else if r.Skip {
			word = "skip"
		}
		got = append(got, word+" "+strings.TrimPrefix(r.Name, "data.plan_test."))
		if r.Name == "data.plan_test.test_wrong" && (!strings.Contains(r.Output, "look here") || r.File != "policies/plan_test.rego" || r.Line != 4) {
			t.Errorf("got %+v", r)
		}
	}
	if want := "pass test_denies,fail test_wrong,pass test_own_data,pass test_library,skip todo_test_later,pass test_network"; strings.Join(got, ",") != want {
		t.Errorf("got %v\nwant %s", got, want)
	}
	broken := append(files, rules("x_test.rego", "package x_test\ntest_x if http.send({})")...)
	if _, problems, _ := Test(t.Context(), release.PolicySpec{Files: broken}); len(problems) != 1 || !strings.HasPrefix(problems[0].String(), "policies/x_test.rego:2: undefined function http.send") {
		t.Errorf("got %v", problems)
	}
}
