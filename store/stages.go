package store

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-cd/waymark/release"
)

// decodeStages reads a run's stages. They are most of what is read of a run: the
// form in which jsonText writes them is read several times as fast as any other.
func decodeStages(text string) ([]release.Stage, error) {
	r := ownReader{rest: text, ok: true}
	stages := r.all()
	if r.ok {
		return stages, nil
	}
	stages = nil
	return stages, json.Unmarshal([]byte(text), &stages)
}

// readCounts reads an object of three numbers with these names, as Changes and
// FindingCount are; ok is false for one of another form than jsonText writes.
func readCounts(text string, names [3]string) (counts [3]int, ok bool) {
	r := ownReader{rest: text, ok: true}
	begin := "{"
	for i, name := range names {
		r.must(begin + `"` + name + `":`)
		counts[i] = r.number()
		begin = ","
	}
	return counts, r.ok && r.rest == "}"
}

// ownReader takes one token after the other; ok is false once one was of another
// form than what jsonText writes.
type ownReader struct {
	rest string
	ok   bool
}

func (r *ownReader) all() (out []release.Stage) {
	for r.must("["); r.ok; r.must(",") {
		r.must("{")
		s := release.Stage{Name: release.StageName(r.text(`"name":"`)), State: release.StageState(r.text(`,"state":"`))}
		s.StartedAt, s.FinishedAt, s.Summary = r.time(`,"started_at":"`), r.time(`,"finished_at":"`), r.text(`,"summary":"`)
		r.must("}")
		if out = append(out, s); r.rest == "]" {
			return out
		}
	}
	return nil
}

func (r *ownReader) must(token string) {
	after, found := strings.CutPrefix(r.rest, token)
	r.rest, r.ok = after, r.ok && found
}

// text takes a member whose name and opening quote are given; one that is not there
// is empty.
func (r *ownReader) text(name string) string {
	after, found := strings.CutPrefix(r.rest, name)
	if !found {
		return ""
	}
	end := strings.IndexAny(after, `"\`)
	if end < 0 || after[end] == '\\' {
		r.ok = false
		return ""
	}
	r.rest = after[end+1:]
	return after[:end]
}

func (r *ownReader) number() int {
	end := strings.IndexAny(r.rest, ",}")
	if end < 0 {
		r.ok = false
		return 0
	}
	n, err := strconv.Atoi(r.rest[:end])
	ours := err == nil && strconv.Itoa(n) == r.rest[:end]
	r.rest, r.ok = r.rest[end:], r.ok && ours
	return n
}

func (r *ownReader) time(name string) time.Time {
	text := r.text(name)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	r.ok = r.ok && err == nil
	return at
}
