package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// statePlace says which arguments of a backend type say where a state lives.
type statePlace struct {
	required []string // it has no place without them
	deciding []string // two states with the same values are one
}

// places are the backend types whose arguments are known. Of any other type
// every argument counts as deciding.
var places = map[string]statePlace{
	"azurerm":    {[]string{"storage_account_name", "container_name", "key"}, []string{"storage_account_name", "container_name", "key"}},
	"consul":     {[]string{"path"}, []string{"address", "path"}},
	"cos":        {[]string{"bucket"}, []string{"bucket", "prefix", "key"}},
	"gcs":        {[]string{"bucket"}, []string{"bucket", "prefix"}},
	"http":       {[]string{"address"}, []string{"address"}},
	"kubernetes": {[]string{"secret_suffix"}, []string{"namespace", "secret_suffix"}},
	"local":      {nil, []string{"path"}},
	"oss":        {[]string{"bucket"}, []string{"bucket", "prefix", "key"}},
	"pg":         {nil, []string{"conn_str", "schema_name"}},
	"s3":         {[]string{"bucket", "key"}, []string{"bucket", "key"}},
}

// anyDigit stands for a digit of an account that only the repository knows.
const anyDigit = '\U000F0000'

// state is where a cell's state lives, as far as the configuration decides.
type state struct {
	cell
	parts []string // by deciding argument; may hold anyDigit
	known []bool   // false where the commit decides the whole argument
}

// deciding lists the arguments of the configured backend that decide.
func (c *Config) deciding() []string {
	if p, ok := places[c.Backend.Type]; ok {
		return p.deciding
	}
	return sortedKeys(c.Backend.Values)
}

// stateOf evaluates where a cell's state lives. Where the account is not known,
// an argument that only writes it out gets twelve wildcards for it, and any
// other argument that depends on it is unknown.
func (c *Config) stateOf(at cell, ctx *hcl.EvalContext) state {
	out := state{cell: at}
	for _, name := range c.deciding() {
		part, known := "", true
		if t, ok := c.Backend.Values[name]; ok {
			part, known = c.statePart(t, ctx)
		} else if c.Backend.Embedded {
			part = c.embeddedPath(at.repository, at.Env, at.Scope, at.Team)
		}
		out.parts = append(out.parts, part)
		out.known = append(out.known, known)
	}
	return out
}

// statePart evaluates one deciding argument.
func (c *Config) statePart(t Template, ctx *hcl.EvalContext) (string, bool) {
	if !ctx.Variables["account"].IsKnown() && writesOut(t.expr, "account") {
		ctx = ctx.NewChild()
		ctx.Variables = map[string]cty.Value{"account": cty.StringVal(strings.Repeat(string(anyDigit), 12))}
	}
	value, problems := t.evaluate(ctx)
	if problems != nil || !value.IsWhollyKnown() {
		return "", false
	}
	if value.IsNull() {
		return "", true
	}
	text, err := backendText(value)
	if err != nil {
		return "", false
	}
	if judged, err := c.judgeBackend(t.name, text); err == nil {
		text = judged
	}
	return text, true
}

// writesOut reports whether an expression does no more with a variable than to
// write it into its result, so that its characters can be told there.
func writesOut(expr hclsyntax.Expression, name string) bool {
	all := func(parts ...hclsyntax.Expression) bool {
		for _, p := range parts {
			if !writesOut(p, name) {
				return false
			}
		}
		return true
	}
	switch e := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		return true
	case *hclsyntax.TemplateExpr:
		return all(e.Parts...)
	case *hclsyntax.TemplateWrapExpr:
		return all(e.Wrapped)
	case *hclsyntax.ParenthesesExpr:
		return all(e.Expression)
	case *hclsyntax.ConditionalExpr:
		return !mentions(e.Condition, name) && all(e.TrueResult, e.FalseResult)
	default:
		return !mentions(expr, name)
	}
}

// mentions reports whether an expression uses a variable.
func mentions(expr hclsyntax.Expression, name string) bool {
	for _, v := range expr.Variables() {
		if v.RootName() == name {
			return true
		}
	}
	return false
}

// checkStates reports the first two cells whose states could be one. It is
// careful: an argument that the commit decides for any cell tells none apart.
func (d *decoder) checkStates(cfg *Config, states []state) {
	names := cfg.deciding()
	told := make([]bool, len(names))
	for i := range names {
		told[i] = true
		for _, s := range states {
			told[i] = told[i] && s.known[i]
		}
	}
	// Two places that are not the same text may still be one where a wildcard of
	// one meets a digit of the other: only among those that are alike with every
	// digit blurred, and only where their wildcards stand elsewhere.
	like := map[string]map[string]map[string]state{} // by blurred text, by mask, by text
	for _, s := range states {
		text := s.text(told)
		alike := like[strings.Map(blur, text)]
		if alike == nil {
			alike = map[string]map[string]state{}
			like[strings.Map(blur, text)] = alike
		}
		mask := strings.Map(wildcards, text)
		if other, same := alike[mask][text]; same {
			d.shared(cfg, other, s)
			return
		}
		for otherMask, others := range alike {
			for otherText, other := range others {
				if otherMask != mask && couldBe(text, otherText) {
					d.shared(cfg, other, s)
					return
				}
			}
		}
		if alike[mask] == nil {
			alike[mask] = map[string]state{}
		}
		alike[mask][text] = s
	}
}

// checkFolders reports the first two cells whose local states lie in one folder,
// or one beneath the other: engines write locks and backups beside a state, so a
// run may write to its state's whole folder.
func (d *decoder) checkFolders(cfg *Config, states []state) {
	if cfg.Backend.Type != "local" {
		return
	}
	owners := map[string]state{}
	for _, s := range states {
		if len(s.parts) != 1 || s.parts[0] == "" || !s.known[0] {
			continue
		}
		folder := filepath.Dir(s.parts[0])
		if other, taken := owners[folder]; taken {
			d.sharedFolder(cfg, other, s)
			return
		}
		owners[folder] = s
	}
	for _, folder := range sortedKeys(owners) {
		for above := filepath.Dir(folder); above != filepath.Dir(above); above = filepath.Dir(above) {
			if other, taken := owners[above]; taken {
				d.sharedFolder(cfg, other, owners[folder])
				return
			}
		}
	}
}

func (d *decoder) sharedFolder(cfg *Config, a, b state) {
	d.report(d.at("backend", cfg.Backend.Type, "path"),
		fmt.Sprintf("the states of %s and %s lie in one folder, to which the runs of both could write", a.Target, b.Target),
		`give each target a folder of its own: path = "state/${repository}/${team}/${env}-${scope}/terraform.tfstate"`)
}

// text joins the parts that tell states apart.
func (s state) text(told []bool) string {
	var b strings.Builder
	for i, part := range s.parts {
		if told[i] {
			b.WriteString(part + "\x00")
		}
	}
	return b.String()
}

// couldBe reports whether two texts, alike when blurred, may be one: every
// character is the same, or one of the two is a wildcard.
func couldBe(a, b string) bool {
	left, right := []rune(a), []rune(b)
	for i := range left {
		if left[i] != right[i] && left[i] != anyDigit && right[i] != anyDigit {
			return false
		}
	}
	return true
}

// wildcards keeps the wildcards of a text and nothing else.
func wildcards(r rune) rune {
	if r == anyDigit {
		return r
	}
	return '.'
}

// blur makes every digit a wildcard.
func blur(r rune) rune {
	if '0' <= r && r <= '9' {
		return anyDigit
	}
	return r
}

// shared reports that two cells could share a state, and what to write.
func (d *decoder) shared(cfg *Config, a, b state) {
	var missing []string
	for _, part := range []struct {
		name string
		same bool
	}{{"repository", a.repository == b.repository}, {"env", a.Env == b.Env}, {"scope", a.Scope == b.Scope}, {"team", a.Team == b.Team}} {
		if !part.same {
			missing = append(missing, "${"+part.name+"}")
		}
	}
	left, right := a.Target.String(), b.Target.String()
	if a.repository != b.repository {
		left, right = left+" of repository "+a.repository, right+" of repository "+b.repository
	}
	names := cfg.deciding()
	at := d.at("backend", cfg.Backend.Type)
	last := "the backend"
	if len(names) > 0 {
		last = names[len(names)-1]
		at = d.at("backend", cfg.Backend.Type, last)
	}
	d.report(at, fmt.Sprintf("%s and %s could share one state", left, right),
		fmt.Sprintf("two targets never may; use %s in %s", strings.Join(missing, " and "), last))
}
