package terraform_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// planOf decodes the resource changes of a plan, and whatever else is given.
func planOf(t *testing.T, doc string) *tfjson.Plan {
	t.Helper()
	plan := new(tfjson.Plan)
	plan.UseJSONNumber(true)
	must(t, json.Unmarshal([]byte(`{"format_version":"1.2",`+doc+`}`), plan))
	return plan
}

// change is a plan with one updated resource.
func change(t *testing.T, fields string) *tfjson.Plan {
	t.Helper()
	return planOf(t, `"resource_changes":[{"address":"a.b","type":"a","change":{"actions":["update"],`+fields+`}}]`)
}

func TestAttributesOfAnUpdate(t *testing.T) {
	type attrs [][3]string // path, before, after
	for name, c := range map[string]struct {
		fields string
		want   attrs
	}{
		"only what changed": {`"before":{"a":1,"b":2,"c":{"d":[1,2]}},"after":{"a":1,"b":3,"c":{"d":[1,9]}}`,
			attrs{{"b", "2", "3"}, {"c.d[1]", "2", "9"}}},
		"added and removed": {`"before":{"gone":"x","tags":{"a b":"1"}},"after":{"new":null,"tags":{"a b":"2","c":"3"}}`,
			attrs{{"gone", `"x"`, ""}, {`tags["a b"]`, `"1"`, `"2"`}, {"tags.c", "", `"3"`}}},
		"unknown": {`"before":{"id":"i","l":[1]},"after":{"l":[1]},"after_unknown":{"id":true,"l":[false,true]}`,
			attrs{{"id", `"i"`, "(known after apply)"}, {"l[1]", "", "(known after apply)"}}},
		"sensitive leaf": {`"before":{"p":"old","q":1},"after":{"p":"new","q":1},"before_sensitive":{"p":true},"after_sensitive":{"p":true}`,
			attrs{{"p", "(sensitive)", "(sensitive)"}}},
		"sensitive on one side": {`"before":{"p":"old"},"after":{"p":"new"},"before_sensitive":{},"after_sensitive":{"p":true}`,
			attrs{{"p", "(sensitive)", "(sensitive)"}}},
		"sensitive in a block in a list": {`"before":{"b":[{"k":"x","n":1}]},"after":{"b":[{"k":"y","n":2},{"k":"z"}]},"before_sensitive":{"b":[{"k":true}]},"after_sensitive":{"b":[{"k":true},{"k":true}]}`,
			attrs{{"b[0].k", "(sensitive)", "(sensitive)"}, {"b[0].n", "1", "2"}, {"b[1].k", "", "(sensitive)"}}},
		"sensitive as a whole": {`"before":{"p":"old"},"after":{"p":"new"},"before_sensitive":true,"after_sensitive":false`,
			attrs{{"", "(sensitive)", "(sensitive)"}}},
		"sensitive and unknown": {`"before":{"p":"old"},"after":{},"before_sensitive":{"p":true},"after_sensitive":{"p":true},"after_unknown":{"p":true}`,
			attrs{{"p", "(sensitive)", "(sensitive)"}}},
		"an object becomes a list": {`"before":{"v":{"s":"hush","o":1}},"after":{"v":["hush"]},"before_sensitive":{"v":{"s":true}},"after_sensitive":{"v":[true]}`,
			attrs{{"v", `{"o":1,"s":"(sensitive)"}`, `["(sensitive)"]`}}},
		"marks of another shape": {`"before":{"v":["hushhush"]},"after":{"v":[]},"before_sensitive":{"v":{"x":true}},"after_sensitive":{}`,
			attrs{{"v", "(sensitive)", "(sensitive)"}}},
		"a copy without a mark": {`"before":{"in":"s3cret-a","out":"url://s3cret-a@h"},"after":{"in":"s3cret-b","out":"{\"p\":\"s3cret-b\"}"},"before_sensitive":{"in":true},"after_sensitive":{"in":true}`,
			attrs{{"in", "(sensitive)", "(sensitive)"}, {"out", `"url://(sensitive)@h"`, `"{\"p\":\"(sensitive)\"}"`}}},
		"a copy as a key":      {`"before":{"in":"s3cret-a","m":{}},"after":{"in":"s3cret-a","m":{"s3cret-a":1}},"before_sensitive":{"in":true},"after_sensitive":{"in":true}`, attrs{{`m["(sensitive)"]`, "", "1"}}},
		"a number, unmarked":   {`"before":{"in":123456,"n":1},"after":{"in":123456,"n":123456},"before_sensitive":{"in":true}`, attrs{{"n", "1", "(sensitive)"}}},
		"a short secret stays": {`"before":{"in":"abcd","n":"x"},"after":{"in":"abcd","n":"abcdef"},"before_sensitive":{"in":true}`, attrs{{"n", `"x"`, `"abcdef"`}}},
		"cut at a character":   {`"before":{"v":""},"after":{"v":"` + strings.Repeat("é", 300) + `"}`, attrs{{"v", `""`, `"` + strings.Repeat("é", 126) + "…"}}},
		"control characters":   {`"before":{"v":""},"after":{"v":"a\u001b[31m\u202eb"}`, attrs{{"v", `""`, `"a\u001b[31m�b"`}}},
		"a large number":       {`"before":{"v":1},"after":{"v":12345678901234567890}`, attrs{{"v", "1", "12345678901234567890"}}},
		"nothing that is seen": {`"before":{"v":1},"after":{"v":1}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := terraform.Summarize(change(t, c.fields))
			if len(s.Resources) != 1 || s.Changes != (release.Changes{Change: 1}) {
				t.Fatalf("summary %+v", s)
			}
			var got attrs
			for _, a := range s.Resources[0].Attributes {
				got = append(got, [3]string{a.Path, a.Before, a.After})
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestSecretsAreLearntFromTheWholePlan(t *testing.T) {
	for name, doc := range map[string]string{
		"drift":      `"resource_drift":[{"address":"x","change":{"actions":["update"],"before":{"p":"TOPSECRET"},"after":{"p":"n"},"before_sensitive":{"p":true}}}]`,
		"an output":  `"output_changes":{"o":{"actions":["update"],"before":{"a":["TOPSECRET"]},"after":"x","before_sensitive":true,"after_sensitive":false}}`,
		"a variable": `"variables":{"v":{"value":{"k":"TOPSECRET"}}},"configuration":{"root_module":{"variables":{"v":{"sensitive":true}}}}`,
		"the state":  `"prior_state":{"format_version":"1.0","values":{"root_module":{"child_modules":[{"resources":[{"address":"y","values":{"p":"TOPSECRET"},"sensitive_values":{"p":true}}]}]}}}`,
	} {
		plan := planOf(t, `"resource_changes":[{"address":"a[\"TOPSECRET\"]","change":{"actions":["create"],"before":null,"after":{"v":"<TOPSECRET>"}}}],`+doc)
		text, err := json.Marshal(terraform.Summarize(plan))
		must(t, err)
		if strings.Contains(string(text), "TOPSECRET") || !strings.Contains(string(text), "(sensitive)") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestActionsAndCounts(t *testing.T) {
	one := func(address, actions, more string) string {
		return fmt.Sprintf(`{"address":%q,"change":{"actions":%s,"before":{},"after":{}}%s}`, address, actions, more)
	}
	plan := planOf(t, `"resource_changes":[`+strings.Join([]string{
		one("c", `["create"]`, ""), one("u", `["update"]`, ""), one("d", `["delete"]`, `,"action_reason":"delete_because_no_resource_config"`),
		one("n", `["no-op"]`, ""), one("r", `["read"]`, ""), one("f", `["forget"]`, ""),
		one("dc", `["delete","create"]`, `,"deposed":"d1"`), one("cd", `["create","delete"]`, ""),
		`{"address":"i","change":{"actions":["no-op"],"before":{},"after":{},"importing":{"id":"x"}}}`,
		`{"address":"rr","action_reason":"replace_because_cannot_update","change":{"actions":["delete","create"],"before":{},"after":{},"replace_paths":[["input","k",0],["x y"]]}}`,
		`null`, `{"address":"no change"}`,
	}, ",")+`],"output_changes":{"b":{"actions":["no-op"],"before":1,"after":1},"a":{"actions":["create"],"before":null,"after_unknown":true},"n":null}`)
	s := terraform.Summarize(plan)
	if want := (release.Changes{Add: 4, Change: 1, Destroy: 4}); s.Changes != want {
		t.Errorf("changes %+v, want %+v", s.Changes, want)
	}
	var got []string
	for _, r := range s.Resources {
		got = append(got, strings.TrimSpace(r.Address+":"+r.Action+" "+r.Reason))
	}
	want := []string{"c:create", "u:update", "d:delete delete because no resource config", "r:read", "f:forget",
		"dc (deposed d1):replace", "cd:replace", "i:import", `rr:replace input.k[0], ["x y"] cannot be changed in place`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if wantOut := []release.OutputChange{{Name: "a", Action: "create", After: "(known after apply)"}}; !reflect.DeepEqual(s.Outputs, wantOut) {
		t.Errorf("outputs %+v", s.Outputs)
	}
	if s.Truncated || s.Digest != "" {
		t.Errorf("truncated %v, digest %q", s.Truncated, s.Digest)
	}
	if got := terraform.Summarize(nil); !reflect.DeepEqual(got, release.PlanSummary{}) {
		t.Errorf("of nil: %+v", got)
	}
}

func TestASummaryIsBounded(t *testing.T) {
	var resources, attributes []string
	for i := range 700 {
		resources = append(resources, fmt.Sprintf(`{"address":"r%d","change":{"actions":["create"],"before":null,"after":{}}}`, i))
		attributes = append(attributes, fmt.Sprintf(`"a%d":%d`, i, i))
	}
	s := terraform.Summarize(planOf(t, `"resource_changes":[`+strings.Join(resources, ",")+`]`))
	if len(s.Resources) != 500 || !s.Truncated || s.Changes.Add != 700 {
		t.Errorf("%d resources, truncated %v, %+v", len(s.Resources), s.Truncated, s.Changes)
	}
	s = terraform.Summarize(change(t, `"before":{},"after":{`+strings.Join(attributes, ",")+`}`))
	if n := len(s.Resources[0].Attributes); n != 100 || !s.Truncated {
		t.Errorf("%d attributes, truncated %v", n, s.Truncated)
	}
	deep := strings.Repeat(`{"x":[`, 2000) + `"TOPSECRET"` + strings.Repeat(`]}`, 2000)
	s = terraform.Summarize(change(t, `"before":{"v":1},"after":{"v":`+deep+`}`))
	if len(s.Resources[0].Attributes) != 1 || len(s.Resources[0].Attributes[0].After) > 300 {
		t.Errorf("deep: %+v", s.Resources)
	}
}

// However values and marks are shaped: a string that is marked in one place
// does not come out in any other.
func FuzzSummarizeHidesWhatIsMarked(f *testing.F) {
	f.Add(`{"a":"TOPSECRET"}`, `{"a":[1]}`, `{"a":true}`, `{}`)
	f.Add(`["x TOPSECRET",{"TOPSECRET":"b"}]`, `[1,2]`, `{"b":[true]}`, `[true,{"c":true}]`)
	f.Add(`{"a":{"b":null}}`, `"TOPSECRET\n"`, `[true]`, `true`)
	f.Fuzz(func(t *testing.T, before, after, marks, unknown string) {
		doc := fmt.Sprintf(`"resource_changes":[{"address":"x","change":{"actions":["update"],
			"before":{"p":"TOPSECRET","r":%s},"after":{"r":%s},"before_sensitive":{"p":true,"r":%s},"after_unknown":{"r":%s}}}]`,
			before, after, marks, unknown)
		plan := new(tfjson.Plan)
		if json.Unmarshal([]byte(`{"format_version":"1.2",`+doc+`}`), plan) != nil || len(plan.ResourceChanges) != 1 {
			return
		}
		// What the document says twice is another document.
		c := plan.ResourceChanges[0]
		if c == nil || c.Change == nil {
			return
		}
		if b, ok := c.Change.Before.(map[string]any); !ok || b["p"] != "TOPSECRET" {
			return
		}
		if m, ok := c.Change.BeforeSensitive.(map[string]any); !ok || m["p"] != true {
			return
		}
		text, err := json.Marshal(terraform.Summarize(plan))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "TOPSECRET") {
			t.Errorf("the secret is in %s", text)
		}
	})
}
