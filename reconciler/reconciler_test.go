package reconciler

import (
	"slices"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/store"
)

// The way of a run from end to end is tested where it is wired, in cmd/waymark,
// with real remotes, engines and databases. Here is what needs none of them.

func TestCompareFindsWhatDiffers(t *testing.T) {
	listing := Listing{Tags: []Ref{
		{Name: "dev_us-east-1/risk/1.0", ObjectID: "a"},
		{Name: "dev_us-east-1/risk/1.1", ObjectID: "moved"},
		{Name: "dev_us-east-1/risk/1.2", ObjectID: "back"},
		{Name: "dev_us-east-1/risk/1.3", ObjectID: "new"},
	}}
	refs := map[string]store.Ref{
		"dev_us-east-1/risk/1.0": {PinnedID: "a", SeenID: "a"},
		"dev_us-east-1/risk/1.1": {PinnedID: "b", SeenID: "b"},
		"dev_us-east-1/risk/1.2": {PinnedID: "back", SeenID: ""},
		"gone":                   {PinnedID: "g", SeenID: "g"},
		"gone before":            {PinnedID: "h", SeenID: ""},
	}
	fresh, sights := compare("infra", listing, refs)
	if len(fresh) != 1 || fresh[0].ObjectID != "new" {
		t.Errorf("fresh %+v", fresh)
	}
	var got []string
	for _, s := range sights {
		got = append(got, s.Tag+"="+s.ObjectID+"@"+s.Version)
	}
	want := []string{"dev_us-east-1/risk/1.1=moved@1.1", "dev_us-east-1/risk/1.2=back@1.2", "gone=@"}
	if !slices.Equal(got, want) {
		t.Errorf("sights %q, want %q", got, want)
	}
}

func TestSameFencesOffAnEarlierAttempt(t *testing.T) {
	mine := store.Record{Run: release.Run{State: release.Running, Attempt: 2}}
	now := mine
	if err := same(mine, now); err != nil {
		t.Error(err)
	}
	now.Attempt = 3
	if same(mine, now) == nil {
		t.Error("an earlier attempt may write")
	}
	now = mine
	now.State = release.Cancelled
	if same(mine, now) == nil {
		t.Error("a run that ended is written to")
	}
}
