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
