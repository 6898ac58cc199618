package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/release"
)

// The modes of a gate.
const (
	GateHard = "hard" // findings that are severe enough fail the run
	GateSoft = "soft" // they are listed, and the run goes on
)

// knownGates are the gates that Waymark itself knows how to run. Any other name
// is the operator's own, by its command.
func knownGates() []string { return []string{"tflint", "checkov", "trivy", "test"} }

// GateConfig is one outside scanner.
type GateConfig struct {
	Name      string           // "tflint", "checkov", "trivy", "test", or one with a Command
	Path      string           // absolute, or a bare name to look up on PATH; empty: Name
	FailOn    release.Severity // findings this severe or more fail the run
	Mode      string           // GateHard or GateSoft
	Enabled   bool
	Config    string   // absolute path of the operator's rules, or empty
	Check     []string // checkov: run these checks alone
	SkipCheck []string // checkov and trivy: leave these checks out
	Command   []string // of a gate of the operator's own: program and arguments
	Format    string   // what Command prints: "sarif" or "junit"
	Stage     string   // of a gate of the operator's own: "lint" or "scan"
}

// Own reports whether the gate is one that Waymark knows by its command alone.
func (g GateConfig) Own() bool { return !slices.Contains(knownGates(), g.Name) }

// Settings returns the gate's own settings by the names that the gates use:
// "config" for tflint; "external_checks_dir", "check" and "skip_check" (comma
// lists) for checkov; "checks_dir" and "skip_check" for trivy. Unset ones are
// left out.
func (g GateConfig) Settings() map[string]string {
	out := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			out[name] = value
		}
	}
	switch g.Name {
	case "checkov":
		set("external_checks_dir", g.Config)
	case "trivy":
		set("checks_dir", g.Config)
	default:
		set("config", g.Config)
	}
	set("check", strings.Join(g.Check, ","))
	set("skip_check", strings.Join(g.SkipCheck, ","))
	return out
}

// GatesFor lists the gates of an environment's runs, in file order, each with
// the severity and the mode that count there.
func (c *Config) GatesFor(environment string) []GateConfig {
	env, _ := c.Environment(environment)
	var out []GateConfig
	for _, g := range c.Gates {
		if !g.Enabled || !slices.Contains(env.Gates, g.Name) {
			continue
		}
		g.Mode = GateHard
		if slices.Contains(env.SoftGates, g.Name) {
			g.Mode = GateSoft
		}
		if floor := env.GateFailOn[g.Name]; floor != "" {
			g.FailOn = release.Severity(floor)
		}
		out = append(out, g)
	}
	return out
}

func severities() []string {
	return []string{string(release.SeverityError), string(release.SeverityWarning), string(release.SeverityNotice)}
}

func gateBlock() block {
	return block{
		name: "gate", label: "name", many: true, checkLabel: checkGateName,
		in: within(func(c *Config, name string) any {
			return added(&c.Gates, GateConfig{Name: name})
		}),
		about: "A scanner that can stop a run: `tflint`, `checkov`, `trivy`, `test` (the engine's own tests of the code), or any other name for a `command` of your own. " +
			"An empty block switches a known one on. See [Gates](gates.md).",
		fields: []field{
			{name: "path", at: of(func(g *GateConfig) any { return &g.Path }), program: true, unset: "its name, looked up on PATH",
				example: `"/usr/local/bin/tflint"`, meaning: "The executable. `test` uses the engine's."},
			{name: "fail_on", at: of(func(g *GateConfig) any { return &g.FailOn }), fallback: `"error"`, oneOf: severities(),
				example: `"warning"`, meaning: "Findings this severe, or more, fail the run. All are listed."},
			{name: "mode", at: of(func(g *GateConfig) any { return &g.Mode }), fallback: `"hard"`, oneOf: []string{GateHard, GateSoft},
				example: `"soft"`, meaning: "`soft`: the gate never fails a run. Where it would have, the run says so wherever it is shown, and in the audit log. An environment's `soft_gates` says otherwise for its runs."},
			{name: "enabled", at: of(func(g *GateConfig) any { return &g.Enabled }), fallback: "true", example: "false",
				meaning: "`false` switches the gate off and keeps its settings."},
			{name: "config", at: of(func(g *GateConfig) any { return &g.Config }), file: true, unset: "the scanner's own rules",
				example: `"/etc/waymark/tflint.hcl"`,
				meaning: "The operator's own rules, outside of the repository: a configuration file for tflint, a folder of checks for Checkov and Trivy."},
			{name: "check", at: of(func(g *GateConfig) any { return &g.Check }), check: checkCheckID, unset: "all checks",
				example: `["CKV_AWS_18"]`, meaning: "Checkov only: run these checks alone."},
			{name: "skip_check", at: of(func(g *GateConfig) any { return &g.SkipCheck }), check: checkCheckID, unset: "none",
				example: `["CKV_AWS_144"]`, meaning: "Checkov and Trivy: leave these checks out."},
			{name: "command", at: of(func(g *GateConfig) any { return &g.Command }), unset: "that of a known gate",
				example: `["semgrep", "scan", "--sarif", "--metrics=off", "--config=/etc/waymark/semgrep"]`,
				meaning: "A gate of your own: the program, by its path or looked up on PATH, and its arguments. No shell reads them. It runs in the root of the tree, which it can only read, without network and without credentials, and prints its report."},
			{name: "format", at: of(func(g *GateConfig) any { return &g.Format }), fallback: `"sarif"`, oneOf: []string{"sarif", "junit"},
				example: `"junit"`, meaning: "What `command` prints: SARIF 2.1.0 or JUnit XML."},
			{name: "stage", at: of(func(g *GateConfig) any { return &g.Stage }), fallback: `"scan"`,
				oneOf:   []string{string(release.StageLint), string(release.StageScan)},
				example: `"lint"`, meaning: "The stage in which `command` runs. Both run beside init and plan."},
		},
	}
}

// gateFields are what an environment says of gates.
func gateFields() []field {
	return []field{
		{name: "gates", at: of(func(e *Environment) any { return &e.Gates }), unset: "all that are enabled",
			example: `["tflint", "checkov"]`, meaning: "Names of the gates that judge runs of this environment."},
		{name: "soft_gates", at: of(func(e *Environment) any { return &e.SoftGates }), unset: "those with `mode = \"soft\"`",
			example: `["trivy"]`, meaning: "Those of them that are in soft mode here, and no others."},
		{name: "gate_fail_on", at: of(func(e *Environment) any { return &e.GateFailOn }), unset: "`fail_on` of each gate", check: checkSeverity,
			example: `{ checkov = "warning" }`, meaning: "By gate, how severe findings must be to fail runs of this environment."},
	}
}

// checkGateName judges the name of a gate.
func checkGateName(s string) (summary, detail string) {
	if s == "policy" || s == "waymark" {
		return fmt.Sprintf("cannot be %q", s), "Waymark's own findings have that source; choose another name"
	}
	return checkName(s)
}

// checkSeverity judges a severity.
func checkSeverity(s string) (summary, detail string) {
	if slices.Contains(severities(), s) {
		return "", ""
	}
	return fmt.Sprintf("cannot be %q", short(s)), Choose(s, severities())
}

// gateSettings says which gates have a setting.
func gateSettings() map[string][]string {
	return map[string][]string{
		"path": {"tflint", "checkov", "trivy"}, "config": {"tflint", "checkov", "trivy"},
		"check": {"checkov"}, "skip_check": {"checkov", "trivy"},
	}
}

// checkGates finds settings that belong to another scanner, commands that are
// missing, and what environments say of gates that there are not.
func (d *decoder) checkGates(cfg *Config) {
	var enabled, soft []string
	for i := range cfg.Gates {
		g := &cfg.Gates[i]
		if d.broken["gate."+g.Name] {
			continue
		}
		if g.Enabled {
			enabled = append(enabled, g.Name)
			if g.Mode == GateSoft {
				soft = append(soft, g.Name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(gateSettings())) {
			if has := gateSettings()[name]; !slices.Contains(has, g.Name) && d.has("gate", g.Name, name) {
				d.report(d.at("gate", g.Name, name), fmt.Sprintf("%s is a setting of %s, not of %s", name, strings.Join(has, ", "), g.Name),
					"take it out, or tune rules where the gate itself reads them")
			}
		}
		d.checkCommand(g)
	}
	for i := range cfg.Environments {
		d.checkEnvironmentGates(&cfg.Environments[i], enabled, soft)
	}
}

// checkCommand judges what only gates of the operator's own have.
func (d *decoder) checkCommand(g *GateConfig) {
	if !g.Own() {
		for _, name := range []string{"command", "format", "stage"} {
			if d.has("gate", g.Name, name) {
				d.report(d.at("gate", g.Name, name), fmt.Sprintf("%s is for gates of your own, and Waymark knows %s", name, g.Name),
					"take it out, or give the gate another name")
			}
		}
		return
	}
	switch {
	case d.broken["gate."+g.Name+".command"]:
	case len(g.Command) == 0:
		known := Choose(g.Name, knownGates())
		d.report(d.at("gate", g.Name), fmt.Sprintf("there is no gate %q", g.Name), known+"; one of your own needs command = [...]")
	case strings.HasPrefix(g.Command[0], "~"):
		d.report(d.at("gate", g.Name, "command"), "the program begins with a tilde, which only a shell expands", `write "${env("HOME")}/..."`)
	case strings.Contains(g.Command[0], "/"):
		g.Command[0] = d.absolute(g.Command[0])
	}
}

// checkEnvironmentGates judges what one environment says of gates, and fills in
// what it leaves out.
func (d *decoder) checkEnvironmentGates(e *Environment, enabled, soft []string) {
	named := func(attribute, gate string, known []string, none string) {
		if !slices.Contains(known, gate) {
			d.report(d.at("environment", e.Name, attribute), fmt.Sprintf("%s of environment %q names %q, %s", attribute, e.Name, short(gate), none), Choose(gate, known))
		}
	}
	if !d.has("environment", e.Name, "gates") {
		e.Gates = enabled
	}
	for _, gate := range e.Gates {
		named("gates", gate, enabled, "and no gate of that name is switched on")
	}
	const none = "which is no gate of this environment"
	if d.has("environment", e.Name, "soft_gates") {
		for _, gate := range e.SoftGates {
			named("soft_gates", gate, e.Gates, none)
		}
	} else {
		for _, gate := range soft {
			if slices.Contains(e.Gates, gate) {
				e.SoftGates = append(e.SoftGates, gate)
			}
		}
	}
	for _, gate := range slices.Sorted(maps.Keys(e.GateFailOn)) {
		named("gate_fail_on", gate, e.Gates, none)
	}
}
