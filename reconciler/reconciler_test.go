package reconciler

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

func TestLogSkipsATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	var file bytes.Buffer
	for _, e := range []release.Event{
		{At: at, Type: release.EventStage, Stage: release.StagePlan, State: release.StageRunning},
		{At: at, Type: release.EventLog, Stage: release.StagePlan, Message: "hello"},
	} {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(append(line, '\n'))
	}
	file.WriteString("{\"torn\": \n{\"type\":\"log\",\"mess")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []release.LogLine
	out := &logReader{from: 2, each: func(l release.LogLine) error { got = append(got, l); return nil }}
	next, err := out.file(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []release.LogLine{{N: 2, At: at, Stage: release.StagePlan, Text: "hello"}}; !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if rest := file.Len() - int(next); rest != len("{\"type\":\"log\",\"mess") {
		t.Errorf("%d bytes are left for the next look", rest)
	}
	if n, err := out.file(path+".missing", 5); n != 5 || err != nil {
		t.Errorf("a file that is not there yet: %d, %v", n, err)
	}
}
