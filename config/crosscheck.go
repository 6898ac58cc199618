package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// check judges fields against each other. It works on what could be decoded,
// also where the file has problems, so that all of them come at once.
func (d *decoder) check(cfg *Config) {
	d.checkServer(cfg)
	d.checkRepositories(cfg)
	d.checkEnvironments(cfg)
	d.checkPromotion(cfg)
	d.checkOrder(cfg)
	d.checkWindows(cfg)
	d.checkApprovals(cfg)
	d.checkGates(cfg)
	d.checkWaivers(cfg)
	d.checkAccountUse(cfg)
	d.checkGlobalUse(cfg)
	d.checkBackend(cfg)
	d.checkAWS(cfg)
	d.checkPools(cfg)
	d.checkBlobs(cfg)
	d.checkRetention(cfg)
	d.checkAudit(cfg)
	d.checkNotify(cfg)
	d.checkDebug(cfg)
	d.checkSigners(cfg)
	d.checkPolicy(cfg)
	d.checkAccess(cfg)
	d.noticeApprovers(cfg)
	d.checkTargets(cfg)
}

// at returns the place of an attribute, or of the nearest thing around it that
// the file has.
func (d *decoder) at(path ...string) hcl.Range {
	for n := len(path); n > 0; n-- {
		if r, ok := d.where[strings.Join(path[:n], ".")]; ok {
			return r
		}
	}
	return d.where[""]
}

// has reports whether the file sets an attribute.
func (d *decoder) has(path ...string) bool {
	_, ok := d.where[strings.Join(path, ".")]
	return ok
}

func (d *decoder) checkServer(cfg *Config) {
	s := cfg.Server
	if s.Listen != "" && !isLoopback(s.Listen) && !s.Token.IsSet() && !d.broken["server.token"] && len(cfg.OIDC) == 0 {
		d.report(d.at("server", "listen"), fmt.Sprintf("server.listen %q is open to the network and there is no token", s.Listen),
			`write token = env("WAYMARK_TOKEN"), or an oidc block, or listen on 127.0.0.1`)
	}
}

// checkRepositories holds each way to authenticate against the URL's transport,
// and reads local folders from the file's own.
func (d *decoder) checkRepositories(cfg *Config) {
	for i := range cfg.Repositories {
		r := &cfg.Repositories[i]
		way := transport(r.URL)
		if way == "file" && !strings.Contains(r.URL, "://") {
			r.URL = d.absolute(r.URL)
		}
		if way == "" {
			continue
		}
		uses := map[string][]string{
			"ssh_key": {"ssh"}, "known_hosts": {"ssh"}, "username": {"http", "https"},
			"password": {"http", "https"}, "ca_file": {"https"},
		}
		for _, name := range []string{"ssh_key", "known_hosts", "username", "password", "ca_file"} {
			if d.has("repository", r.Name, name) && !slices.Contains(uses[name], way) {
				d.report(d.at("repository", r.Name, name), fmt.Sprintf("%s does nothing for this repository", name),
					fmt.Sprintf("its url is reached by %s and %s is for %s; take one of them out", way, name, strings.Join(uses[name], " and ")))
			}
		}
	}
}

func (d *decoder) checkEnvironments(cfg *Config) {
	for _, e := range cfg.Environments {
		if len(e.Regions) == 0 && cfg.GlobalRegion == "" && !d.broken["environment."+e.Name+".regions"] && !d.broken["global_region"] {
			d.report(d.at("environment", e.Name, "regions"), fmt.Sprintf("environment %q has no Regions, and there is no global_region", e.Name),
				`write regions = ["us-east-1"], or global_region = "us-east-1" at the top of the file`)
		}
	}
	if len(cfg.Teams) == 0 && !d.broken["teams"] {
		d.report(d.at("teams"), "teams is empty", `write teams = ["research"]`)
	}
}

// checkPromotion finds promotions from nowhere and in circles.
func (d *decoder) checkPromotion(cfg *Config) {
	from := map[string]string{}
	var names []string
	for _, e := range cfg.Environments {
		from[e.Name] = e.PromotesFrom
		names = append(names, e.Name)
	}
	reported := map[string]bool{}
	for _, e := range cfg.Environments {
		if e.PromotesFrom == "" {
			continue
		}
		if !slices.Contains(names, e.PromotesFrom) {
			d.report(d.at("environment", e.Name, "promotes_from"),
				fmt.Sprintf("environment %q promotes from %q, which is no environment", e.Name, e.PromotesFrom),
				Choose(e.PromotesFrom, names)+fmt.Sprintf("; or add environment %q { regions = [...] }: until there is one, nothing could be deployed to %s", e.PromotesFrom, e.Name))
			continue
		}
		circle := []string{e.Name}
		for next := e.PromotesFrom; next != "" && !reported[next] && len(circle) <= len(names); next = from[next] {
			circle = append(circle, next)
			if next != e.Name {
				continue
			}
			for _, name := range circle {
				reported[name] = true
			}
			d.report(d.at("environment", e.Name, "promotes_from"),
				"environments promote in a circle: "+strings.Join(circle, " from "), "take one promotes_from out")
			break
		}
	}
}

// checkAccountUse finds uses of an account that nothing gives.
func (d *decoder) checkAccountUse(cfg *Config) {
	if !cfg.Stack.Account.IsZero() || d.broken["stack.account"] {
		return
	}
	const write = `write account = tfvar("path", "name"), or the 12 digits, in the stack block`
	for _, t := range cfg.templates() {
		for _, v := range t.expr.Variables() {
			if v.RootName() == "account" {
				d.report(v.SourceRange(), "account is used, and stack.account is missing", write)
			}
		}
	}
	for _, e := range cfg.Environments {
		if len(e.Accounts) > 0 {
			d.report(d.at("environment", e.Name, "accounts"), "accounts is set, and stack.account is missing", write)
		}
	}
}

// checkGlobalUse finds templates that tell global targets apart although there
// can be none.
func (d *decoder) checkGlobalUse(cfg *Config) {
	if cfg.GlobalRegion != "" || d.broken["global_region"] {
		return
	}
	for _, t := range cfg.templates() {
		_ = hclsyntax.VisitAll(t.expr, func(n hclsyntax.Node) hcl.Diagnostics {
			l, ok := n.(*hclsyntax.LiteralValueExpr)
			if ok && l.Val.Type() == cty.String && l.Val.IsKnown() && !l.Val.IsNull() && l.Val.AsString() == "global" {
				d.report(l.SrcRange, "global targets are used, and global_region is missing",
					`write global_region = "us-east-1" at the top of the file`)
			}
			return nil
		})
	}
}

// checkBackend fills in the embedded backend and finds arguments that a state's
// place cannot do without.
func (d *decoder) checkBackend(cfg *Config) {
	b := &cfg.Backend
	if b.Type == "" {
		b.Type, b.Values = "local", map[string]Template{}
	}
	if b.Type == "local" && !d.has("backend.local.path") {
		b.Embedded = true
	}
	for _, name := range places[b.Type].required {
		if _, ok := b.Values[name]; !ok && !d.has("backend", b.Type, name) {
			d.report(d.at("backend", b.Type), fmt.Sprintf("backend %q needs %s, which says where the state lives", b.Type, name),
				fmt.Sprintf("write %s = \"...\"", name))
			d.broken["backend."+b.Type+"."+name] = true
		}
	}
}

// templates returns every template of the file, in a fixed order.
func (c *Config) templates() []Template {
	all := []Template{c.Stack.Account, c.Stack.Path, c.Stack.VarFiles, c.Stack.Variables, c.Stack.Module,
		c.Credentials.RunRole, c.Credentials.PlanRole, c.Credentials.ApplyRole, c.Credentials.ExternalID}
	for _, name := range sortedKeys(c.Backend.Values) {
		all = append(all, c.Backend.Values[name])
	}
	return slices.DeleteFunc(all, Template.IsZero)
}

// embeddedPath is where the embedded backend keeps a target's state.
func (c *Config) embeddedPath(repository, env, scope, team string) string {
	return filepath.Join(c.Server.DataDir, "state", repository, team, env+"-"+scope, "terraform.tfstate")
}
