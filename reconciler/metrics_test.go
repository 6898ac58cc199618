package reconciler

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-cd/waymark/config"
)

func TestUnknownRunsAreCountedFromZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := New(Config{Metrics: reg, Config: &config.Config{Environments: []config.Environment{{Name: "dev"}, {Name: "prod"}}}}); err != nil {
		t.Fatal(err)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range all {
		if family.GetName() != "waymark_runs_ended_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["state"] == "unknown" && m.GetCounter().GetValue() == 0 {
				got = append(got, labels["env"])
			}
		}
	}
	if len(got) != 2 || got[0] != "dev" || got[1] != "prod" {
		t.Errorf("unknown runs are counted from zero for %q, want dev and prod", got)
	}
}
