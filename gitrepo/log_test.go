package gitrepo_test

import (
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
	"github.com/waymark-cd/waymark/release"
)

func TestLogListsWhatIsBetween(t *testing.T) {
	remote := testkit.NewRemote(t)
	first := remote.Commit(map[string]string{"main.tf": "# one\n"})
	second := remote.Commit(map[string]string{"main.tf": "# two\n"})
	side := remote.CommitFiles("side", first, testkit.File{Path: "side.tf", Content: "# side\n"})
	merge := remote.Merge("side")
	last := remote.Commit(map[string]string{"main.tf": "# three\n"})
	r := local(t, remote)
	if err := r.Fetch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		from, to string
		most     int
		want     []string
		more     bool
	}{
		"all":        {first, last, 10, []string{last, merge, second, side}, false},
		"some":       {first, last, 2, []string{last, merge}, true},
		"one side":   {second, last, 10, []string{last, merge, side}, false},
		"the other":  {side, last, 10, []string{last, merge, second}, false},
		"none":       {last, last, 10, nil, false},
		"back":       {last, first, 10, nil, false},
		"one":        {merge, last, 10, []string{last}, false},
		"divergence": {second, side, 10, []string{side}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, more, err := r.Log(t.Context(), tt.from, tt.to, tt.most)
			if err != nil || more != tt.more || len(got) != len(tt.want) {
				t.Fatalf("%d commits, more %v, %v; want %d", len(got), more, err, len(tt.want))
			}
			seen := map[string]gitrepo.LogEntry{}
			for _, e := range got {
				seen[e.Commit] = e
			}
			for _, id := range tt.want {
				if e := seen[id]; e.Author == "" || e.Subject == "" || e.At.IsZero() {
					t.Errorf("commit %s: %+v", id, e)
				}
			}
		})
	}
	_, _, err := r.Log(t.Context(), first, strings.Repeat("a", 40), 10)
	wantError(t, err, release.ErrNotFound)
	_, _, err = r.Log(t.Context(), first, "main", 10)
	wantError(t, err, release.ErrInvalid)
}
