package config

import (
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// Settings returns the gate's own settings by the names that the gates use:
// "config" for tflint; "external_checks_dir", "check" and "skip_check" (comma
// lists) for checkov. Unset ones are left out.
func (g GateConfig) Settings() map[string]string {
	out := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	if g.Name == "checkov" {
		set("external_checks_dir", g.Config)
	} else {
		set("config", g.Config)
	}
	set("check", strings.Join(g.Check, ","))
	set("skip_check", strings.Join(g.SkipCheck, ","))
	return out
}

func gateBlock() block {
	return block{
		name: "gate", label: "scanner", labels: []string{"tflint", "checkov"}, many: true,
		in: within(func(c *Config, name string) any {
			return added(&c.Gates, GateConfig{Name: name})
		}),
		about: "A scanner that can stop a run: `tflint` or `checkov`. An empty block switches it on.",
		fields: []field{
			{name: "path", at: of(func(g *GateConfig) any { return &g.Path }), program: true, unset: "its name, looked up on PATH",
				example: `"/usr/local/bin/tflint"`, meaning: "The executable."},
			{name: "fail_on", at: of(func(g *GateConfig) any { return &g.FailOn }), fallback: `"error"`,
				oneOf:   []string{string(release.SeverityError), string(release.SeverityWarning), string(release.SeverityNotice)},
				example: `"warning"`, meaning: "Findings this severe, or more, fail the run. All are listed."},
			{name: "enabled", at: of(func(g *GateConfig) any { return &g.Enabled }), fallback: "true", example: "false",
				meaning: "`false` switches the gate off and keeps its settings."},
			{name: "config", at: of(func(g *GateConfig) any { return &g.Config }), file: true, unset: "the scanner's own rules",
				example: `"/etc/waymark/tflint.hcl"`,
				meaning: "The operator's own rules, outside of the repository: a configuration file for tflint, a folder of checks for Checkov."},
			{name: "check", at: of(func(g *GateConfig) any { return &g.Check }), check: checkCheckID, unset: "all checks",
				example: `["CKV_AWS_18"]`, meaning: "Checkov only: run these checks alone."},
			{name: "skip_check", at: of(func(g *GateConfig) any { return &g.SkipCheck }), check: checkCheckID, unset: "none",
				example: `["CKV_AWS_144"]`, meaning: "Checkov only: leave these checks out."},
		},
	}
}
