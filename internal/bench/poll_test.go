package bench

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/waymark-cd/waymark/gitrepo"
	"github.com/waymark-cd/waymark/internal/testkit"
)

// BenchmarkList100k polls a remote of 100,000 annotated tags and reports the
// time as a ratio to git ls-remote --tags of the same remote, measured in turn
// with it, besides the heap that a poll leaves behind.
func BenchmarkList100k(b *testing.B) {
	remote := testkit.NewRemote(b)
	commit := remote.Commit(map[string]string{"main.tf": "# one\n"})
	const tags = 100_000
	remote.BulkTags(tags, commit, func(i int) string {
		return fmt.Sprintf("dev_us-east-1/team-%02d/1.%d", i%20, i)
	})
	for _, way := range []struct{ name, url string }{
		{"http", remote.ServeHTTP("", "").URL},
		{"file", "file://" + remote.Dir},
	} {
		b.Run(way.name, func(b *testing.B) {
			cfg := gitrepo.Config{Name: "bench", URL: way.url, Branch: "main", CacheDir: filepath.Join(b.TempDir(), "c")}
			repo, err := gitrepo.Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer repo.Close()
			poll := func() {
				if l, err := repo.List(b.Context()); err != nil || len(l.Tags) != tags {
					b.Fatalf("%d tags, %v", len(l.Tags), err)
				}
			}
			first := timed(poll)
			before := heap()
			var ours, theirs []time.Duration
			for b.Loop() {
				ours, theirs = nil, nil
				for range rounds {
					theirs = append(theirs, timed(func() { lsRemote(b, way.url) }))
					ours = append(ours, timed(poll))
				}
			}
			grown := (heap() - before) / 1e6
			b.ReportMetric(grown, "heap-growth-MB")
			table = append(table,
				row{"first poll of 100,000 tags, " + way.name, median(theirs), first, "", "-"},
				row{"poll of 100,000 tags, " + way.name, median(theirs), median(ours), fmt.Sprintf("heap %+.1f MB", grown), "ratio at most 1.50, memory flat"})
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func lsRemote(b *testing.B, url string) {
	cmd := exec.Command("git", "ls-remote", "--tags", url)
	cmd.Env = testkit.GitEnv()
	if err := cmd.Run(); err != nil { // its output goes to /dev/null
		b.Fatal(err)
	}
}
