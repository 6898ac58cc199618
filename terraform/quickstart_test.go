package terraform_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-cd/waymark/release"
	"github.com/waymark-cd/waymark/terraform"
)

// The example that people copy runs with both engines, module by module, in
// the way in which its README says it does by hand.
func TestTheQuickstartDeploysEachModuleByItself(t *testing.T) {
	eachEngine(t, func(t *testing.T, kind string) {
		for scope, want := range map[string]struct {
			changes release.Changes
			outputs []string
		}{
			"global":   {release.Changes{Add: 1}, []string{"role_arn"}},
			"regional": {release.Changes{Add: 4}, []string{"subnets", "url"}},
		} {
			b := newBench(t, kind, nil, nil)
			must(t, os.CopyFS(b.cfg.Dir, os.DirFS(filepath.Join("..", "examples", "quickstart"))))
			must(t, b.Init(t.Context(), nil))
			must(t, b.Validate(t.Context()))
			must(t, b.Plan(t.Context(), terraform.PlanOptions{
				Out: b.plan, Target: "module." + scope, Variables: map[string]any{"env": "dev", "region": "us-east-1"},
				VarFiles: []string{"environments/dev/research/variables.tfvars", "environments/dev/research/us-east-1.tfvars"},
			}))
			plan, err := b.Show(t.Context(), b.plan)
			must(t, err)
			for _, r := range terraform.Summarize(plan).Resources {
				if !strings.HasPrefix(r.Address, "module."+scope+".") {
					t.Errorf("%s: the plan has %s", scope, r.Address)
				}
			}
			result, err := b.Apply(t.Context(), b.plan)
			must(t, err)
			if got := slices.Sorted(maps.Keys(result.Outputs)); result.Changes != want.changes || !slices.Equal(got, want.outputs) {
				t.Errorf("%s: %+v, outputs %v", scope, result.Changes, result.Outputs)
			}
		}
	})
}
