package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// numbered decodes a plan as the runner does it.
func numbered(t testing.TB, text string) *tfjson.Plan {
	t.Helper()
	p := new(tfjson.Plan)
	p.UseJSONNumber(true)
	if err := json.Unmarshal([]byte(`{"format_version": "1.2", `+text+`}`), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What users' rules see of a resource: everything but what is sensitive.
func TestPlanInputOfAResource(t *testing.T) {
	p := numbered(t, `"resource_changes": [{"address": "module.m.a_b.c[\"k\"]", "previous_address": "a_b.c", "module_address": "module.m", "mode": "managed",
		"type": "a_b", "name": "c", "provider_name": "registry.terraform.io/org/a", "action_reason": "replace_because_tainted", "deposed": "d",
		"change": {"actions": ["delete", "create"], "importing": {"id": "x"},
			"before": {"n": 1, "secret": "hush!", "list": [{"s": "one", "t": 12345678901234567890}]},
			"after": {"n": 2, "secret": "hush!!", "copy": "the hush!! of it", "list": [{"s": "two", "t": true}], "none": null},
			"after_unknown": {"id": true, "list": [{"u": true}]},
			"before_sensitive": {"secret": true, "list": [{"s": true}]}, "after_sensitive": {"secret": true, "list": [{"s": true}]}}},
		null, {"address": "x.y"}, {"address": "data.d.e", "mode": "data", "change": {"actions": ["delete"], "before": {}, "after": null}}]`)
	in := planInput(p, release.PolicySpec{Kind: release.Deploy, Account: "111111111111", Target: release.Target{Env: "e", Scope: "global", Team: "t"}}, true)
	if in.Format != 2 || in.Destroys != 1 || len(in.ResourceChanges) != 3 || in.Target.Account != "111111111111" || in.Kind != "deploy" {
		t.Errorf("got %+v", in)
	}
	want := `{"address":"module.m.a_b.c[\"k\"]","previous_address":"a_b.c","module":"module.m","mode":"managed","type":"a_b","name":"c",` +
		`"provider_address":"org/a","actions":["delete","create"],"reason":"replace_because_tainted","deposed":true,"imported":true,` +
		`"before":{"list":[{"s":"(sensitive)","t":12345678901234567890}],"n":1,"secret":"(sensitive)"},` +
		`"after":{"copy":"the (sensitive) of it","list":[{"s":"(sensitive)","t":true}],"n":2,"none":null,"secret":"(sensitive)"},` +
		`"after_unknown":{"id":true,"list":[{"u":true}]}}`
	if got := asJSON(t, in.ResourceChanges[0]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := asJSON(t, in.ResourceChanges[1]); !strings.Contains(got, `"actions":[],"reason":"","deposed":false,"imported":false,"before":null,"after":null,"after_unknown":null`) {
		t.Errorf("got %s", got)
	}
}

// Code must not hide an attribute from the rules by marking its name as a secret.
func TestNamesOfAttributesStay(t *testing.T) {
	p := numbered(t, `"resource_changes": [{"address": "a.b", "change": {"actions": ["create"], "before": null,
		"after": {"account_id": "1", "tags_all": {"account_id": "x"}, "s": {"account_id": "tags_all"}}, "after_sensitive": {"s": true}}}]`)
	got := asJSON(t, planInput(p, release.PolicySpec{}, true).ResourceChanges[0].After)
	if want := `{"account_id":"1","s":"(sensitive)","tags_all":{"(sensitive)":"x"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPlanInputOfOutputs(t *testing.T) {
	p := numbered(t, `"output_changes": {"b": {"actions": ["create"], "before": null, "after": {"x": "secret", "y": 1}, "after_sensitive": {"x": true}, "after_unknown": {"z": true}},
		"a": {"actions": ["update"], "before": 1, "after": 2, "after_unknown": false}, "n": null}`)
	want := `[{"name":"a","actions":["update"],"sensitive":false,"before":1,"after":2,"after_unknown":false},` +
		`{"name":"b","actions":["create"],"sensitive":true,"before":"(sensitive)","after":"(sensitive)","after_unknown":true}]`
	if got := asJSON(t, planInput(p, release.PolicySpec{}, true).Outputs); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAccounts is the table of what counts as an account of somebody's own.
func TestAccounts(t *testing.T) {
	resource := func(mode, actions, before, after string) string {
		return fmt.Sprintf(`"resource_changes": [{"address": "a.b", "mode": %q, "change": {"actions": [%s], "before": %s, "after": %s, "after_sensitive": {"owner_id": true}}}]`, mode, actions, before, after)
	}
	provider := func(expressions, more string) string {
		return `"configuration": {"provider_config": {"aws": {"name": "aws", "full_name": "hashicorp/aws", "expressions": {` + expressions + `}}}, "root_module": {}}` + more
	}
	const arn = `"arn:aws:s3:eu-central-1:222222222222:x"`
	for name, c := range map[string]struct{ plan, want string }{
		"an arn":                   {resource("managed", `"create"`, "null", `{"arn": `+arn+`}`), "a.b arn 222222222222"},
		"another partition":        {resource("managed", `"create"`, "null", `{"arn": "arn:aws-us-gov:iam::222222222222:role/x"}`), "a.b arn 222222222222"},
		"an id that is an arn":     {resource("managed", `"update"`, `{"id": `+arn+`}`, `{"id": `+arn+`}`), "a.b id 222222222222"},
		"an account":               {resource("managed", `"create"`, "null", `{"account_id": "222222222222"}`), "a.b account_id 222222222222"},
		"an owner, marked":         {resource("managed", `"create"`, "null", `{"owner_id": "222222222222"}`), "a.b owner_id 222222222222 sensitive"},
		"one that is destroyed":    {resource("managed", `"delete"`, `{"arn": `+arn+`}`, "null"), "a.b arn 222222222222"},
		"one that moves":           {resource("managed", `"update"`, `{"arn": "arn:aws:s3:::111111111111:x"}`, `{"arn": `+arn+`}`), "a.b arn 222222222222"},
		"an id of digits":          {resource("managed", `"create"`, "null", `{"id": "222222222222"}`), ""},
		"an arn without account":   {resource("managed", `"create"`, "null", `{"arn": "arn:aws:s3:::bucket"}`), ""},
		"AWS's own":                {resource("managed", `"create"`, "null", `{"arn": "arn:aws:iam::aws:policy/X"}`), ""},
		"a canonical owner":        {resource("managed", `"create"`, "null", `{"owner_id": "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`), ""},
		"what is referred to":      {resource("managed", `"create"`, "null", `{"role_arn": `+arn+`, "policy": "222222222222"}`), ""},
		"a data source":            {resource("data", `"read"`, "null", `{"owner_id": "222222222222"}`), ""},
		"one that is forgotten":    {resource("managed", `"forget"`, `{"arn": `+arn+`}`, "null"), ""},
		"the caller":               {`"prior_state": {"format_version": "1.0", "values": {"root_module": {"child_modules": [{"resources": [{"address": "data.aws_caller_identity.c", "mode": "data", "type": "aws_caller_identity", "values": {"account_id": "222222222222"}}]}]}}}`, "data.aws_caller_identity.c account_id 222222222222 identity"},
		"the caller, later":        {`"planned_values": {"root_module": {"resources": [{"address": "data.aws_caller_identity.c", "mode": "data", "type": "aws_caller_identity", "values": {"account_id": "222222222222"}}]}}`, "data.aws_caller_identity.c account_id 222222222222 identity"},
		"a provider's role":        {provider(`"assume_role": [{"role_arn": {"constant_value": "arn:aws:iam::222222222222:role/x"}, "external_id": {"constant_value": "333333333333"}}]`, ""), "provider.aws assume_role 222222222222 identity"},
		"a provider's web role":    {provider(`"assume_role_with_web_identity": [{"role_arn": {"constant_value": "arn:aws:iam::222222222222:role/x"}}]`, ""), "provider.aws assume_role_with_web_identity 222222222222 identity"},
		"a provider's accounts":    {provider(`"allowed_account_ids": {"constant_value": ["222222222222", 333333333333]}`, ""), "provider.aws allowed_account_ids 222222222222 identity, provider.aws allowed_account_ids 333333333333 identity"},
		"a forbidden account":      {provider(`"forbidden_account_ids": {"constant_value": ["222222222222"]}`, ""), ""},
		"by a variable":            {provider(`"assume_role": [{"role_arn": {"references": ["var.role"]}}]`, `, "variables": {"role": {"value": "arn:aws:iam::222222222222:role/x"}}`), "provider.aws assume_role 222222222222 identity"},
		"by part of a variable":    {provider(`"assume_role": [{"role_arn": {"references": ["var.t.account", "var.t"]}}]`, `, "variables": {"t": {"value": {"account": "222222222222", "x": ["y"]}}}`), "provider.aws assume_role 222222222222 identity"},
		"of a module's own":        {`"configuration": {"provider_config": {"m:aws": {"name": "aws", "module_address": "module.m", "expressions": {"assume_role": [{"role_arn": {"references": ["var.role"]}}]}}}, "root_module": {}}, "variables": {"role": {"value": "arn:aws:iam::222222222222:role/x"}}`, ""},
		"an unknown provider role": {provider(`"assume_role": [{"role_arn": {"references": ["local.x"]}}]`, ""), ""},
	} {
		var got []string
		for _, use := range planInput(numbered(t, c.plan), release.PolicySpec{}, false).Accounts {
			if use.Account == "111111111111" {
				continue
			}
			text := use.Address + " " + use.By + " " + use.Account
			if use.Identity {
				text += " identity"
			}
			if use.Sensitive {
				text += " sensitive"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: got %q, want %q", name, strings.Join(got, ", "), c.want)
		}
	}
	marked := numbered(t, resource("managed", `"create"`, "null", `{"owner_id": "222222222222"}`))
	if got := planInput(marked, release.PolicySpec{}, true).Accounts; len(got) != 1 || got[0].Account != "(sensitive)" {
		t.Errorf("users' rules see %+v", got)
	}
	v, err := engine(t, release.PolicySpec{Account: "111111111111"}).Plan(t.Context(), marked)
	if err != nil || rulesOf(v) != "error team-account" || strings.Contains(said(v), "222222222222") {
		t.Errorf("what the code marks as sensitive: %s %v", said(v), err)
	}
}

// Only the team's account, those that the operator adds, and nothing said where a
// target has none.
func TestTeamAccount(t *testing.T) {
	p := numbered(t, `"resource_changes": [{"address": "a.b", "mode": "managed", "change": {"actions": ["create"], "before": null, "after": {"account_id": "222222222222"}}}]`)
	for name, c := range map[string]struct {
		spec release.PolicySpec
		want string
	}{
		"another":       {release.PolicySpec{Account: "111111111111"}, "error team-account"},
		"its own":       {release.PolicySpec{Account: "222222222222"}, ""},
		"one more":      {release.PolicySpec{Account: "111111111111", Accounts: []string{"222222222222"}}, ""},
		"no account":    {release.PolicySpec{}, ""},
		"only warned":   {release.PolicySpec{Account: "111111111111", Switches: []release.PolicySwitch{{Rule: "team-account", Level: release.PolicyWarn}}}, "warning team-account"},
		"more accounts": {release.PolicySpec{Account: "111111111111", Accounts: []string{"333333333333"}}, "error team-account"},
	} {
		if v, err := engine(t, c.spec).Plan(t.Context(), p); err != nil || rulesOf(v) != c.want {
			t.Errorf("%s: %s %v", name, said(v), err)
		}
	}
}

func TestPatternsOfDataBearingTypes(t *testing.T) {
	p := numbered(t, `"resource_changes": [{"address": "my_store.x", "mode": "managed", "type": "my_store", "change": {"actions": ["delete"], "before": {}, "after": null}}]`)
	for pattern, want := range map[string]int{"my_store": 1, "my_*": 1, "*_store": 1, "my": 0, "my_store_*": 0, "MY_STORE": 0} {
		v, err := engine(t, release.PolicySpec{DataBearingTypes: []string{pattern}}).Plan(t.Context(), p)
		if err != nil || len(v.Requirements) != want {
			t.Errorf("%s: %s %v", pattern, said(v), err)
		}
	}
}

// A thousand and more findings do not become a page that nobody can open, and a
// denial among them stays one.
func TestVerdictsAreBounded(t *testing.T) {
	var changes []string
	for i := range 3000 {
		changes = append(changes, fmt.Sprintf(`{"address": "aws_s3_bucket.x[%d]", "mode": "managed", "type": "aws_s3_bucket", "change": {"actions": ["delete"], "before": {}, "after": null}}`, i))
	}
	v, err := engine(t, release.PolicySpec{}).Plan(t.Context(), numbered(t, `"resource_changes": [`+strings.Join(changes, ",")+`]`))
	if err != nil || len(v.Findings) != maxFindings || len(v.Requirements) != 1 {
		t.Fatalf("%d findings, %v, %v", len(v.Findings), v.Requirements, err)
	}
	if v.Findings[0].Rule != "max-destroys" || v.Findings[0].Severity != release.SeverityError || v.Findings[maxFindings-1].Message != "and 2002 more findings" {
		t.Errorf("first %+v, last %+v", v.Findings[0], v.Findings[maxFindings-1])
	}
}

// What a plan marks as sensitive reaches neither users' rules nor a message.
func FuzzPlanInput(f *testing.F) {
	f.Add(`{"a": "TOPSECRET"}`, `{"a": [1]}`, `{"a": true}`, `{}`)
	f.Add(`["x TOPSECRET", {"TOPSECRET": "b"}]`, `[1, 2]`, `{"b": [true]}`, `[true, {"c": true}]`)
	f.Add(`{"arn": "TOPSECRET", "tags": {"TOPSECRET": 1}}`, `{"owner_id": "222222222222"}`, `[true]`, `true`)
	f.Fuzz(func(t *testing.T, before, after, marks, unknown string) {
		doc := fmt.Sprintf(`{"format_version": "1.2", "resource_changes": [{"address": "x", "mode": "managed", "change": {"actions": ["update"],
			"before": {"p": "TOPSECRET", "r": %s}, "after": {"r": %s}, "before_sensitive": {"p": true, "r": %s}, "after_unknown": {"r": %s}}}],
			"output_changes": {"o": {"actions": ["create"], "before": null, "after": %[2]s, "after_unknown": %[4]s}}}`, before, after, marks, unknown)
		p := new(tfjson.Plan)
		p.UseJSONNumber(true)
		if json.Unmarshal([]byte(doc), p) != nil || len(p.ResourceChanges) != 1 || p.ResourceChanges[0] == nil || p.ResourceChanges[0].Change == nil {
			return
		}
		// What the document says twice is another document.
		c := p.ResourceChanges[0].Change
		b, _ := c.Before.(map[string]any)
		m, _ := c.BeforeSensitive.(map[string]any)
		if b["p"] != "TOPSECRET" || m["p"] != true {
			return
		}
		whole := planInput(p, release.PolicySpec{Account: "111111111111"}, true)
		text, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "TOPSECRET") {
			t.Errorf("the secret is in %s", text)
		}
		var again PlanInput
		read := json.NewDecoder(bytes.NewReader(text))
		read.UseNumber() // numbers have as many digits as the plan gives them
		if err := read.Decode(&again); err != nil || len(again.ResourceChanges) != len(whole.ResourceChanges) {
			t.Errorf("%s does not read back: %v", text, err)
		}
		v, err := fuzzed(t).Plan(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(said(v), "TOPSECRET") {
			t.Errorf("the secret is in %s", said(v))
		}
	})
}

var fuzzedEngine *Engine

// fuzzed is an engine that is made once.
func fuzzed(t *testing.T) *Engine {
	if fuzzedEngine == nil {
		fuzzedEngine = engine(t, release.PolicySpec{Account: "111111111111", RequiredTags: []string{"owner"}})
	}
	return fuzzedEngine
}

func FuzzTagInput(f *testing.F) {
	f.Add("dev_global/a/1", "Ann <ann@example.org>", "message", "1.0")
	f.Add("", "<", "\xff\x00", "\u202e")
	f.Add("x", "a > b < c", "", "")
	f.Fuzz(func(t *testing.T, name, tagger, message, version string) {
		in := tagInput(release.TagFacts{Tag: name, Tagger: tagger, Message: message, Version: version,
			Earlier: []release.TagVersion{{Version: version}}}, release.PolicySpec{})
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var again TagInput
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.Tagger, in.Tagger) || strings.ContainsAny(in.Tagger.Email, "<>") {
			t.Errorf("got %+v of %q", in.Tagger, tagger)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("package plan\ndeny contains \"m\" if input.x", `{"a": 1}`, "a: [1]")
	f.Add("package lib.x\nimport data.waymark.lib", `{"waymark": {}}`, "&a [*a]")
	f.Fuzz(func(t *testing.T, rego, data, yaml string) {
		files := rules("plan.rego", rego, "a.json", data, "b/c.yaml", yaml)
		for _, p := range Check(files) {
			if p.File == "" || p.Text == "" || strings.ContainsAny(p.String(), "\n\x1b") {
				t.Errorf("%q", p)
			}
		}
	})
}
