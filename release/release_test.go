package release

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTransitions writes the whole machine out: what is not here does not exist.
func TestTransitions(t *testing.T) {
	allowed := map[State][]State{
		Queued:           {Running, Cancelled, Superseded, Failed, Denied},
		Running:          {Queued, AwaitingApproval, Succeeded, Failed, Denied, Cancelled, Unknown},
		AwaitingApproval: {Running, Rejected, Cancelled, Superseded, Failed},
		Unknown:          {Running, Succeeded, Failed},
	}
	for _, from := range States() {
		for _, to := range States() {
			got, err := Transition(from, to)
			want := slices.Contains(allowed[from], to)
			if want && (err != nil || got != to) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if !want && (!errors.Is(err, ErrConflict) || got != from) {
				t.Errorf("%s to %s: got %s, %v; want ErrConflict", from, to, got, err)
			}
		}
		if from.HoldsTarget() != slices.Contains([]State{Running, AwaitingApproval, Unknown}, from) {
			t.Errorf("%s holds its target: %v", from, from.HoldsTarget())
		}
		if _, moves := allowed[from]; from.Ended() == moves && from != Unknown {
			t.Errorf("%s has ended: %v", from, from.Ended())
		}
	}
}

// TestSchemasKnowEveryState holds the CHECK constraints of both databases, and
// the drawn machine, against the states.
func TestSchemasKnowEveryState(t *testing.T) {
	for _, file := range []string{"../store/migrations/sqlite/00001_initial.sql", "../store/migrations/postgres/00001_initial.sql"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check := regexp.MustCompile(`(?s)CHECK \(state IN \((.*?)\)\)`).FindStringSubmatch(string(text))
		if check == nil {
			t.Fatalf("%s has no CHECK on the state", file)
		}
		var names []string
		for _, m := range regexp.MustCompile(`'(\w+)'`).FindAllStringSubmatch(check[1], -1) {
			names = append(names, m[1])
		}
		var want []string
		for _, s := range States() {
			want = append(want, string(s))
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s knows %v, want %v", file, names, want)
		}
	}
	drawn, err := os.ReadFile("../docs/concepts.md")
	if err != nil {
		t.Fatal(err)
	}
	for from, all := range transitions {
		for _, to := range all {
			if !regexp.MustCompile(`(?m)^\s*` + string(from) + ` --> ` + string(to) + `\b`).Match(drawn) {
				t.Errorf("docs/concepts.md does not draw %s --> %s", from, to)
			}
		}
	}
}

func TestParseTargetPrintsAgain(t *testing.T) {
	for _, s := range []string{"dev_us-east-1/research", "prod_global/risk"} {
		target, err := ParseTarget(s)
		if err != nil || target.String() != s || target.IsGlobal() != strings.Contains(s, "global") || !target.GlobalTwin().IsGlobal() {
			t.Errorf("%s: %+v, %v", s, target, err)
		}
	}
	if _, err := ParseTarget("dev_us-east-1/research/1.0"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a whole tag: %v", err)
	}
}

func TestSetStageKeepsTheOrder(t *testing.T) {
	var r Run
	for _, name := range []StageName{StageApply, StageConfig, StagePlan, StageCheckout, StageLint, StagePlan} {
		r.SetStage(Stage{Name: name, State: StagePassed})
	}
	var got []StageName
	for _, s := range r.Stages {
		got = append(got, s.Name)
	}
	if want := []StageName{StageCheckout, StageConfig, StageLint, StagePlan, StageApply}; !slices.Equal(got, want) {
		t.Errorf("stages %v", got)
	}
	if s := r.Stage(StageInit); s.State != StagePending {
		t.Errorf("a stage that has not begun: %+v", s)
	}
}

func TestSuppressedFindingsDoNotCount(t *testing.T) {
	all := []Finding{{Severity: SeverityNotice}, {Severity: SeverityError, Suppressed: "skip"}, {Severity: SeverityWarning},
		{Severity: "odd", File: "b"}, {Severity: SeverityError, File: "a"}}
	if c := CountFindings(all); c != (FindingCount{Error: 2, Warning: 1, Notice: 1}) {
		t.Errorf("count %+v", c)
	}
	if n := len(Failing(all, SeverityWarning)); n != 3 {
		t.Errorf("%d are a warning or worse, want 3", n)
	}
	SortFindings(all)
	if all[1].File != "a" || all[len(all)-1].Severity != SeverityNotice {
		t.Errorf("order %+v", all)
	}
}

// TestAStateIsPushedOnlyWhereItBelongs holds the rule of a push, and that both
// states are told where it says no.
func TestAStateIsPushedOnlyWhereItBelongs(t *testing.T) {
	kept := StateMark{Serial: 4, Lineage: "a"}
	for _, c := range []struct {
		now StateMark
		may bool
	}{
		{StateMark{}, true}, {StateMark{3, "a"}, true}, {StateMark{4, "a"}, true}, {StateMark{5, "a"}, false}, {StateMark{1, "b"}, false}, {StateMark{9, "b"}, false},
	} {
		err := kept.MayReplace(c.now)
		if c.may != (err == nil) || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), kept.String()) || !strings.Contains(err.Error(), c.now.String())) {
			t.Errorf("%v over %v: %v", kept, c.now, err)
		}
	}
	for text, want := range map[string]StateMark{
		`{"version":4,"resources":[],"serial":7,"lineage":"x"}`: {7, "x"},
		`{"version":4,"serial":0,"lineage":""}`:                 {},
		`{"lineage":"x","encrypted_data":"…"}`:                  {0, "x"},
	} {
		if got, err := ReadStateMark(strings.NewReader(text)); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "{", "[]", "{}", `{"serial":"x"}`, "x"} {
		if got, err := ReadStateMark(strings.NewReader(text)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
