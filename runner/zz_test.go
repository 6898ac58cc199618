package runner_test
import ("testing";"time";"fmt";"os";"encoding/json";"github.com/waymark-cd/waymark/release";"github.com/waymark-cd/waymark/runner";"context")
func TestZZ(t *testing.T) {
	for range 3 {
	s := newSite(t, "plain")
	spec := s.plan()
	var planned release.Result
	for i := range 2 {
		if i == 1 { spec = s.apply(planned) }
		t0 := time.Now()
		l := launcher(t)
		if err := l.Start(context.Background(), spec); err != nil { t.Fatal(err) }
		fmt.Println("started", time.Since(t0))
		r, err := runner.Follow(t.Context(), spec.Dir, 0, nil)
		if err != nil { t.Fatal(err) }
		end := time.Since(t0)
		planned = r
		var c struct{At time.Time}
		d, _ := os.ReadFile(spec.Dir+"/runner.json"); json.Unmarshal(d, &c)
		fmt.Println("claim", c.At.Sub(t0))
		for _, st := range r.Stages { fmt.Println(st.Name, st.StartedAt.Sub(t0), st.FinishedAt.Sub(t0)) }
		fmt.Println("result", r.FinishedAt.Sub(t0), "end", end)
	}
	}
}
