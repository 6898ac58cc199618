package policies

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// rules makes policy files of texts, by path.
func rules(texts ...string) []release.PolicyFile {
	var files []release.PolicyFile
	for i := 0; i < len(texts); i += 2 {
		files = append(files, release.PolicyFile{Name: "policies/" + texts[i], Path: texts[i], Text: texts[i+1]})
	}
	return files
}

const emptyPlan = `{"format_version": "1.2"}`

// said prints a verdict, one line per finding and requirement.
func said(v release.PolicyVerdict) string {
	var lines []string
	for _, f := range v.Findings {
		at := strings.TrimRight(f.File+":"+release.FormatID(int64(f.Line)), ":0")
		lines = append(lines, strings.TrimSpace(strings.Join([]string{string(f.Severity), f.Rule, f.Resource + at, f.Message, f.Link}, " ")))
	}
	for _, q := range v.Requirements {
		lines = append(lines, "needs "+q.String()+" of the "+string(q.Of))
	}
	return strings.Join(lines, "\n")
}

// TestUsersRules is the table of what an operator's rules may say and what comes
// of it, through the process that evaluates them.
func TestUsersRules(t *testing.T) {
	for name, c := range map[string]struct {
		rego string
		want string
	}{
		"a message alone": {`deny contains "no"`, "error plan.deny  no"},
		"all of a finding": {`deny contains {"rule": "r", "message": "m", "resource": "a.b", "link": "https://example.org"}`,
			"error r a.b m https://example.org"},
		"a place": {`warn contains {"rule": "r", "message": "m", "file": "x.tf", "line": 7}`, "warning r x.tf:7 m"},
		"approval": {`require_approval contains {"rule": "r", "message": "m"}`,
			"notice r  m; it needs 1 approval\nneeds 1 approval (policy r) of the plan"},
		"approval of some": {`require_approval contains {"rule": "r", "message": "m", "count": 2, "from": ["group:dba", "ann"]}`,
			"notice r  m; it needs 2 approvals from group:dba or ann\nneeds 2 approvals from group:dba or ann (policy r) of the plan"},
		"one requirement for many": {`require_approval contains {"rule": "r", "message": m} if some m in ["a", "b"]`,
			"notice r  a; it needs 1 approval\nnotice r  b; it needs 1 approval\nneeds 1 approval (policy r) of the plan"},
		"nothing":            {`deny contains "no" if input.kind == "destroy"`, ""},
		"the target":         {`deny contains input.target.env`, "error plan.deny  prod"},
		"settings":           {`deny contains sprintf("%d", [data.waymark.settings.max_destroys])`, "error plan.deny  50"},
		"the bundled types":  {`deny contains "yes" if "aws_s3_bucket" in data.waymark.databearing.types`, "error plan.deny  yes"},
		"the library":        {"import data.waymark.lib\ndeny contains \"yes\" if lib.hidden(\"(sensitive)\")", "error plan.deny  yes"},
		"own data":           {`deny contains data.lists.names[0]`, "error plan.deny  ann"},
		"a text of controls": {`deny contains "a\u001b[2Jb\nc"`, "error plan.deny  a [2Jb c"},

		"no message":          {`deny contains {"rule": "r"}`, "! data.plan.deny: a result has no message"},
		"an unknown member":   {`deny contains {"msg": "m"}`, `! data.plan.deny: the result {"msg":"m"}: json: unknown field "msg"`},
		"a number":            {`deny contains 1`, "! data.plan.deny: a result is neither a string nor an object: 1"},
		"count of a denial":   {`deny contains {"message": "m", "count": 1}`, "! data.plan.deny: the result \"m\" has count or from"},
		"too many approvals":  {`require_approval contains {"message": "m", "count": 21}`, "! data.plan.require_approval: the result \"m\" needs 21 approvals"},
		"a negative count":    {`require_approval contains {"message": "m", "count": -1}`, "! data.plan.require_approval: the result \"m\" needs -1 approvals"},
		"nobody":              {`require_approval contains {"message": "m", "from": [""]}`, "! data.plan.require_approval: the result \"m\" has an empty name"},
		"an error of a rule":  {`deny contains "m" if to_number("x") == 1`, "! policies/plan.rego:"},
		"two values for one":  {"x := 1 if true\nx := 2 if true\ndeny contains \"m\" if x == 1", "! policies/plan.rego:"},
		"a division by zero":  {`deny contains "m" if 1 / input.format - 2 == 1 / 0`, "! policies/plan.rego:"},
		"an undefined answer": {`deny contains input.nothing`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := release.PolicySpec{Target: release.Target{Env: "prod"}, Files: rules("plan.rego", "package plan\n"+c.rego, "lists/names.yaml", "names: [ann]")}
			got, err := engine(t, spec).Plan(t.Context(), plan(t, emptyPlan))
			if want, bad := strings.CutPrefix(c.want, "! "); bad {
				if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, %v\nwant %s", got, err, want)
				}
				return
			}
			if text := said(got); err != nil || text != c.want {
				t.Errorf("got\n%s\n%v\nwant\n%s", text, err, c.want)
			}
		})
	}
}

// What has no end ends, as a no that says what it was.
func TestUsersRulesAreBounded(t *testing.T) {
	const (
		loop = `deny contains "x" if {
	some a in numbers.range(1, 4000)
	some b in numbers.range(1, 4000)
	some c in numbers.range(1, 4000)
	a + b + c == 0
}`
		inside = `warn contains "x" if count(numbers.range(1, 900000000)) == 3`
		grow   = `require_approval contains x if {
	x := concat("", [s | some _ in numbers.range(1, 20000); s := sprintf("%01000d", [1])])
	y := [z | some _ in numbers.range(1, 20000); z := concat("", [x, x])]
	count(y) == 0
}`
	)
	for name, c := range map[string]struct {
		rego    string
		memory  int64
		command string
		want    string
	}{
		"a loop":          {loop, 0, "", "data.plan.deny did not end within 1s: write the rules so that they take less time, or raise policy { timeout }"},
		"a loop of OPA's": {inside, 16 << 30, "", "data.plan.warn did not end within 1s"},
		"memory":          {grow, 256 << 20, "", " needed more than 256 MiB of memory: write the rules so that they need less, or raise policy { memory }"},
		"a panic":         {`deny contains "x"`, 0, "evaluator-that-panics", "data.plan.deny could not be evaluated: panic: a function of OPA's failed"},
		"one that hangs":  {`deny contains "x"`, 0, "evaluator-that-hangs", "data.plan.warn did not end within 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := release.PolicySpec{Files: rules("plan.rego", "package plan\n"+c.rego), Timeout: time.Second, Memory: c.memory}
			if name == "memory" {
				spec.Timeout = time.Minute
			}
			e := engine(t, spec)
			if c.command != "" {
				e.users.command = []string{os.Args[0], c.command}
			}
			began := time.Now()
			got, err := e.Plan(t.Context(), plan(t, emptyPlan))
			if !errors.Is(err, release.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v\nwant %s", got, err, c.want)
			}
			if took := time.Since(began); took > spec.Timeout+20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A stop of the run is no verdict of the rules.
func TestUsersRulesAreStopped(t *testing.T) {
	e := engine(t, release.PolicySpec{Files: rules("plan.rego", "package plan\ndeny contains \"x\"")})
	e.users.command = []string{os.Args[0], "evaluator-that-hangs"}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Plan(ctx, plan(t, emptyPlan)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, release.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// A missing executable, and one that somebody kills, are faults, not a rule's no.
func TestAnEvaluatorThatIsNotThere(t *testing.T) {
	for _, command := range [][]string{{"/nowhere/waymark"}, {os.Args[0], "evaluator-that-is-killed"}} {
		e := engine(t, release.PolicySpec{Files: rules("plan.rego", "package plan\ndeny contains \"x\"")})
		e.users.command = command
		if _, err := e.Plan(t.Context(), plan(t, emptyPlan)); err == nil || errors.Is(err, release.ErrRefused) {
			t.Errorf("%v: got %v", command, err)
		}
	}
}

// Rules of one decision point are not evaluated at another, and without rules of
// an operator's own no process is started at all.
func TestUsersRulesAreAskedWhereTheyBelong(t *testing.T) {
	e := engine(t, release.PolicySpec{Files: rules("tag.rego", "package tag\ndeny contains input.message", "lib/x.rego", "package lib.x\ny := 1")})
	if !e.JudgesTags() {
		t.Error("the rules on tags are not seen")
	}
	e.users.command = []string{"/nowhere/waymark"}
	if got, err := e.Plan(t.Context(), plan(t, emptyPlan)); err != nil || len(got.Findings) != 0 {
		t.Errorf("got %v %v", got, err)
	}
	if got, err := e.Config(t.Context(), newInput(".")); err != nil || len(got.Findings) != 0 {
		t.Errorf("got %v %v", got, err)
	}
	if _, err := e.Tag(t.Context(), release.TagFacts{}); err == nil {
		t.Error("the rules on tags were not asked")
	}
	if none := engine(t, release.PolicySpec{}); none.JudgesTags() {
		t.Error("there are rules on tags that nobody wrote")
	}
}

func TestTagInput(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	facts := release.TagFacts{Repository: "infra", Tag: "prod_global/risk/1.0", Target: release.Target{Env: "prod", Scope: "global", Team: "risk"},
		Version: "1.0", ObjectID: "o", Commit: "c", Annotated: true, Reachable: true, Tagger: "Ann <Ann B.> <ann@example.org>", TaggedAt: at,
		Message: "m\xff", Signed: true, SignedBy: release.Signer{Name: "ann", Key: "k", Kind: "SSH"}, Account: "111111111111",
		Deployed: &release.TagVersion{Version: "0.9", Tag: "t", Commit: "d", RunID: 7, At: at},
		Earlier:  []release.TagVersion{{Version: "0.8", Decision: release.Refused, At: at}}, Now: at}
	rego := `package tag
deny contains sprintf("%v", [{k: v | some k, v in input}])`
	e := engine(t, release.PolicySpec{Files: rules("tag.rego", rego), Protected: true})
	v, err := e.Tag(t.Context(), facts)
	if err != nil || len(v.Findings) != 1 {
		t.Fatal(v, err)
	}
	for _, want := range []string{`"tagger": {"email": "ann@example.org", "name": "Ann <Ann B.>"}`, `"message": "m`, `"now": "2026-01-02T02:04:05Z"`,
		`"target": {"account": "111111111111", "env": "prod", "protected": true, "scope": "global", "team": "risk"}`} {
		a, err := e.ExplainTag(t.Context(), facts)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(a.Verdict.Findings[0].Message+regoText(t, a.Input), want) {
			t.Errorf("%s is not in %s", want, regoText(t, a.Input))
		}
	}
}

// A denial of an operator's rule stands beside those of bundled ones, and neither
// hides the other.
func TestUsersAndBundledRulesAddUp(t *testing.T) {
	spec := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}, Files: rules("plan.rego", "package plan\ndeny contains \"mine\"")}
	got, err := engine(t, spec).Plan(t.Context(), plan(t, `{"format_version": "1.2", "resource_changes": [{"address": "x.y", "provider_name": "evil.org/a/b"}]}`))
	if text := said(got); err != nil || !strings.Contains(text, "mine") || !strings.Contains(text, "allowed-providers") {
		t.Errorf("%s %v", text, err)
	}
}

// Explain says where in which file something fired.
func TestExplainNamesWhatFired(t *testing.T) {
	spec := release.PolicySpec{AllowedProviders: []string{"hashicorp/*"}, Files: rules("plan.rego", "package plan\n\ndeny contains \"a\" if false\n\ndeny contains \"b\"\n")}
	a, err := engine(t, spec).ExplainPlan(t.Context(), plan(t, `{"format_version": "1.2", "resource_changes": [{"address": "x.y", "provider_name": "evil.org/a/b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Fired{{Rule: "data.waymark.plan.findings", File: "rego/plan.rego"}, {Rule: "data.plan.deny", File: "policies/plan.rego", Line: 5}}
	if len(a.Fired) != 2 || a.Fired[1] != want[1] || a.Fired[0].File != want[0].File || a.Fired[0].Line == 0 {
		t.Errorf("got %+v", a.Fired)
	}
}
