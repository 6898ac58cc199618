package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/api"
	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/server"
	"github.com/waymark-cd/waymark/store"
)

// governed is a run of a service whose plan waits for two people; decided holds
// the verdicts that reached it.
func governed(t *testing.T) (w *cliWorld, id string, decided *[]release.Verdict) {
	t.Helper()
	decided = &[]release.Verdict{}
	w = newCLIWorld(t, func(c *server.Config) {
		c.Decide = func(ctx context.Context, id int64, v release.Verdict) (release.Run, error) {
			*decided = append(*decided, v)
			return c.Store.Run(ctx, id)
		}
	})
	id = w.add("dev_us-east-1/research@1.0", release.AwaitingApproval)
	_, err := w.store.Update(t.Context(), 1, store.Update{Entry: audit.Entry{Action: "run.x"}, Change: func(r *store.Record) error {
		r.PlanDigest = "sha256:77"
		r.Requirements = []release.Requirement{{Count: 2, From: []string{"group:release" + hostile}, Why: "environment dev"}}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w, id, decided
}

func TestApproveIsForThePlanThatIsThere(t *testing.T) {
	w, id, decided := governed(t)
	for _, tt := range []struct {
		args   []string
		digest string
	}{
		{[]string{"approve", id}, "sha256:77"},
		{[]string{"approve", id, "--yes"}, "sha256:77"},
		{[]string{"approve", id, "--digest", "sha256:78"}, "sha256:78"},
		{[]string{"reject", id, "--reason", "no", "--digest", "sha256:78"}, "sha256:78"},
		{[]string{"reject", id, "--reason", "no"}, ""},
	} {
		*decided = nil
		out, errs, code := w.run(append([]string{"runs"}, tt.args...)...)
		if code != 0 || len(*decided) != 1 || (*decided)[0].PlanDigest != tt.digest || string((*decided)[0].Action) != tt.args[0] {
			t.Errorf("%v: exit %d %s, verdicts %+v", tt.args, code, errs, *decided)
		}
		if !strings.Contains(out, "it still needs 2 approvals from group:release") || strings.ContainsAny(out, "\x1b\u202e") {
			t.Errorf("%v prints %q", tt.args, out)
		}
	}
	out, _, _ := w.run("runs", "show", id)
	for _, want := range []string{"sha256:77", "2 approvals from group:release"} {
		if !strings.Contains(out, want) {
			t.Errorf("show lacks %q: %s", want, out)
		}
	}
}

// TestApproveAsksAfterItShowed: what a person on a terminal sees, and that
// anything but yes is a no.
func TestApproveAsksAfterItShowed(t *testing.T) {
	w, id, _ := governed(t)
	for answer, want := range map[string]int{"yes\n": 0, "no\n": exitRefused, "": exitRefused, "y\n": exitRefused} {
		var shown bytes.Buffer
		var d api.Decision
		g := &globals{server: w.url, stdout: &shown, stderr: &shown, env: func(string) string { return "" }}
		err := g.lookBefore(t.Context(), id, &d, true, strings.NewReader(answer))
		var coded *exitError
		if errors.As(err, &coded) && coded.code != want || (err == nil) != (want == 0) {
			t.Errorf("%q: %v", answer, err)
		}
		for _, part := range []string{"terraform_data.a", "1 to add", "2 approvals from group:release", "main.tf:7", "This approves the plan sha256:77", `Only "yes" goes on`} {
			if !strings.Contains(shown.String(), part) {
				t.Errorf("%q is not shown: %s", part, shown.String())
			}
		}
		if strings.ContainsAny(shown.String(), "\x1b\u202e") || d.PlanDigest != "sha256:77" {
			t.Errorf("shown %q, digest %q", shown.String(), d.PlanDigest)
		}
	}
}
