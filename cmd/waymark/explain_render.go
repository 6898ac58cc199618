package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// renderExplanation prints it for people.
func (g *globals) renderExplanation(e *explanation) {
	if !e.Valid {
		fmt.Fprintf(g.stdout, "%s would be refused\n  %s\n", clean(e.Tag), clean(e.Reason))
		if e.Nearest != "" {
			fmt.Fprintf(g.stdout, "  the nearest tag that would be admitted: %s\n", e.Nearest)
		}
		g.renderVerdicts(e)
		return
	}
	fmt.Fprintf(g.stdout, "%s\n", bold.on(clean(e.Tag), g.colour))
	t := table{indent: "  "}
	t.row("environment", e.Parts.Env)
	t.row("scope", e.Parts.Scope)
	t.row("team", e.Parts.Team)
	t.row("version", e.Parts.Version)
	for _, x := range e.Targets {
		if len(e.Targets) > 1 {
			t.row("in repository", x.Repository)
		}
		t.row("target", x.Target)
		t.row("account", orDash(x.Account))
		t.row("region", x.Region)
		t.row("roles", orDash(pairs(x.Roles)))
		t.row("state", strings.Join(nonEmpty(x.Backend.Kind, x.Backend.Bucket, x.Backend.Key), " "))
		t.row("lock", orDash(x.Backend.Lock))
		t.row("root module", x.Path)
		t.row("module target", orDash(x.Module))
		t.row("var files", orDash(strings.Join(x.VarFiles, ", ")))
		t.row("variables", orDash(pairs(x.Variables)))
		if x.Commit != "" {
			t.row("files read at", shortCommit(x.Commit))
		}
	}
	var gates []string
	for _, gate := range e.Gates {
		gates = append(gates, gate.text())
	}
	t.row("gates", orDash(strings.Join(gates, ", ")))
	t.row("providers", orAny(e.Policy.AllowedProviders))
	t.row("modules", orAny(e.Policy.AllowedModules))
	t.row("programs", map[bool]string{true: "none: the environment is protected", false: "allowed"}[e.Policy.Protected])
	t.row("weakened rules", orDash(e.Policy.Weakened))
	t.row("signature", e.Signature.text())
	t.row("approvals", strings.TrimSpace(fmt.Sprintf("%d %s", e.Env.Approvals, fromWhom(e.Env.Approvers))))
	t.row("promotes from", orDash(e.Env.PromotesFrom))
	t.row("older version", map[string]string{"allow": "allowed", "refuse": "refused"}[e.Env.Downgrade])
	t.row("queue", map[string]string{"all": "every tag runs", "supersede": "a newer tag overtakes queued ones"}[e.Env.Queue])
	windows := "any time"
	if len(e.Env.Windows) > 0 {
		windows = strings.Join(e.Env.Windows, ", ") + "; outside: " + e.Env.Outside
	}
	t.row("windows", windows)
	if e.Global != "" {
		t.row("waits for", e.Global+", while it has a queued or active run")
	}
	t.write(g.stdout, g.colour)
	g.renderVerdicts(e)
}

// stepPaint colours the outcomes of steps.
func stepPaint(state stepState) paint {
	switch state {
	case stepPasses:
		return green
	case stepRefused:
		return red
	case stepWaits, stepNeeds:
		return yellow
	default:
		return faint
	}
}

// renderVerdicts prints what each rule of the service would say.
func (g *globals) renderVerdicts(e *explanation) {
	fmt.Fprintf(g.stdout, "\n%s\n", bold.on("Steps", g.colour))
	t := table{indent: "  "}
	several := slices.ContainsFunc(e.Steps, func(s explainedStep) bool { return s.Repository != "" })
	for _, s := range e.Steps {
		if several {
			t.row(s.Name, cell{string(s.State), stepPaint(s.State)}, orDash(s.Repository), s.Says)
			continue
		}
		t.row(s.Name, cell{string(s.State), stepPaint(s.State)}, s.Says)
	}
	t.write(g.stdout, g.colour)
}

func fromWhom(approvers []string) string {
	if len(approvers) == 0 {
		return ""
	}
	return "from " + strings.Join(approvers, " or ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orAny(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, ", ")
}

func nonEmpty(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// pairs prints a map as "a = 1, b = 2", sorted.
func pairs[T any](m map[string]T) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value, err := json.Marshal(m[name])
		if err != nil {
			value = []byte("?")
		}
		out = append(out, name+" = "+string(value))
	}
	return strings.Join(out, ", ")
}
