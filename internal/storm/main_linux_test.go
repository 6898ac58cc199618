package storm

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// keptSeeds are what the tests run: one to begin with, and every seed under
// which an invariant ever broke.
var keptSeeds = []uint64{1, 2}

// options of one storm.
type options struct {
	duration  time.Duration // of the faults; recovery and the last runs come after
	replicas  int
	kills     int // of replicas, by SIGKILL
	seed      uint64
	heartbeat time.Duration
	waymark   string // the binary; empty: built for the storm
	clocks    bool   // the replicas' clocks differ by minutes
}

// opt is what the flags of this test binary say.
var opt = func() *options {
	o := &options{}
	flag.DurationVar(&o.duration, "storm.duration", 30*time.Second, "how long faults go on")
	flag.IntVar(&o.replicas, "storm.replicas", 3, "how many replicas share the database")
	flag.IntVar(&o.kills, "storm.kills", 10, "how many replicas are killed with SIGKILL")
	flag.Uint64Var(&o.seed, "storm.seed", 0, "what decides the faults; 0 for the kept seeds, one after the other")
	flag.DurationVar(&o.heartbeat, "storm.heartbeat", 3*time.Second, "after which silence a replica is declared dead")
	flag.StringVar(&o.waymark, "storm.waymark", "", "the waymark to storm; built where it is not given")
	flag.BoolVar(&o.clocks, "storm.clocks", false, "let the replicas' clocks differ by minutes, which takes a build of everything with another package time")
	return o
}()

// TestMain lets the test binary pose as the engine when it is started under the
// engine's name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == engineName {
		os.Exit(pose())
	}
	os.Exit(m.Run())
}

// TestStorm runs one storm for each seed.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL and tofu; left out with -short")
	}
	binary := opt.waymark
	if binary == "" {
		binary = buildWaymark(t, opt.clocks)
	}
	seeds := keptSeeds
	if opt.seed != 0 {
		seeds = []uint64{opt.seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			o := *opt
			o.seed, o.waymark = seed, binary
			newStorm(t, o).run()
		})
	}
}

// buildWaymark builds the service as make build does, with clocks that can be
// wrong where that is asked for.
func buildWaymark(t *testing.T, clocks bool) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "waymark")
	args := []string{"build", "-trimpath", "-o", binary}
	if clocks {
		args = append(args, clockOverlay(t)...)
	}
	build := exec.Command("go", append(args, "github.com/waymark-cd/waymark/cmd/waymark")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building waymark: %v\n%s", err, out)
	}
	return binary
}
