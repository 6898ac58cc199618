package store

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// TestStagesAreReadAsJSON holds the fast way against the general one.
func TestStagesAreReadAsJSON(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	texts := []string{"null", "[]", "[{}]", "", "[", "[{", `[{"name":"plan"`, `[{"name":"plan"}`, `[{"name":"plan"}]x`, `[{"name":"plan"},]`, `[{"name":"pl\u0061n"}]`,
		` [{"name":"plan"}]`, `[{"state":"passed","name":"plan"}]`, `[{"name":"plan","more":"x"}]`, `[{"name":"plan","started_at":"yesterday"}]`,
		`[{"name":"plan","started_at":"2026-03-01T12:00:00+01:00"}]`, `[{"name":"plan","state":5}]`, `[{"name":"plan","summary":"a \"b\""}]`, `{"name":"plan"}`}
	for _, stages := range [][]release.Stage{
		{{Name: release.StagePlan}},
		{{Name: release.StagePlan, State: release.StagePassed, StartedAt: at, FinishedAt: at.Add(time.Second), Summary: "1 to add"}, {Name: release.StageApply, State: release.StageRunning, StartedAt: at}},
		{{Name: release.StagePlan, State: release.StageFailed, Summary: "<b> \"quoted\" \\ \n ü \u2028 &"}},
		{{Name: release.StagePlan, FinishedAt: at, Summary: "}],{"}},
	} {
		texts = append(texts, jsonText(stages))
	}
	for _, text := range texts {
		var want []release.Stage
		wantErr := json.Unmarshal([]byte(text), &want)
		got, err := decodeStages(text)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v, %v", text, got, err, want, wantErr)
		}
	}
}

// TestCountsAreReadAsJSON holds the fast way against the general one.
func TestCountsAreReadAsJSON(t *testing.T) {
	for _, text := range []string{"", "null", "{}", `{"add":1,"change":22,"destroy":0}`, `{"add":-1,"change":0,"destroy":0}`, `{"add":1,"change":2}`, `{"add":1,"change":2,"destroy":3}x`,
		`{"add":1,"change":2,"destroy":3,"more":4}`, `{"add":1.5,"change":2,"destroy":3}`, `{"add":+1,"change":2,"destroy":3}`, `{"add":01,"change":2,"destroy":3}`,
		`{"change":2,"add":1,"destroy":3}`, `{"add":1,"change":2,"destroy":`, `{"add":1_0,"change":2,"destroy":3}`, jsonText(release.Changes{Add: 3, Change: 1 << 40, Destroy: 7})} {
		n, ok := readCounts(text, [3]string{"add", "change", "destroy"})
		var want release.Changes
		if err := json.Unmarshal([]byte(text), &want); ok && (err != nil || want != release.Changes{Add: n[0], Change: n[1], Destroy: n[2]}) {
			t.Errorf("%s: %v, want %+v, %v", text, n, want, err)
		}
	}
	if _, ok := readCounts(jsonText(release.Changes{Add: 3}), [3]string{"add", "change", "destroy"}); !ok {
		t.Error("what jsonText writes is not read the fast way")
	}
}
