package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"

	"github.com/spf13/pflag"

	"github.com/waymark-cd/waymark/audit"
	"github.com/waymark-cd/waymark/config"
	"github.com/waymark-cd/waymark/release"
)

// serveRoles are what an instance can do, in the order in which they are shown:
// answer the API, look at repositories, drive runs.
func serveRoles() []string { return []string{"api", "controller", workerRole} }

const workerRole = "worker"

// serveOptions are what instances of one configuration differ in.
type serveOptions struct {
	Roles []string // of serveRoles, in their order
	Pools []string // whose runs a worker drives; none without that role
	Name  string   // as people call the instance
}

func (o *serveOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.Roles, "role", nil, "`roles` of this instance: api, controller, worker (default all)")
	flags.StringSliceVar(&o.Pools, "pool", nil, "`pools` whose runs it drives as a worker (default every pool of the configuration)")
	flags.StringVar(&o.Name, "name", "", "the instance's `name` for people (default the name of the host)")
}

// instanceNameForm is what an instance may be called: it appears on a command
// line, in a table and in metrics.
var instanceNameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// complete checks the options against the configuration and fills in what was
// left out. What is wrong ends with exit code 2.
func (o serveOptions) complete(cfg *config.Config) (serveOptions, error) {
	out := serveOptions{Name: o.Name}
	for _, role := range o.Roles {
		if !slices.Contains(serveRoles(), role) {
			return o, usageErrorf("--role %q is no role: %s", role, config.Choose(role, serveRoles()))
		}
	}
	for _, role := range serveRoles() {
		if len(o.Roles) == 0 || slices.Contains(o.Roles, role) {
			out.Roles = append(out.Roles, role)
		}
	}
	known := cfg.PoolNames()
	for _, pool := range o.Pools {
		if !slices.Contains(known, pool) {
			return o, usageErrorf("--pool %q is no pool of %s: %s; or add pool %q { ... }", pool, cfg.File, config.Choose(pool, known), pool)
		}
	}
	worker := slices.Contains(out.Roles, workerRole)
	if len(o.Pools) > 0 && !worker {
		return o, usageErrorf("--pool says whose runs a worker drives, and --role leaves out worker: take one of them out")
	}
	for _, pool := range known {
		if worker && (len(o.Pools) == 0 || slices.Contains(o.Pools, pool)) {
			out.Pools = append(out.Pools, pool)
		}
	}
	if out.Name == "" {
		out.Name, _ = os.Hostname() // for people alone: none is no reason not to serve
	} else if !instanceNameForm.MatchString(out.Name) {
		return o, usageErrorf("--name %q: write letters, digits and . _ - alone, 64 at most, a letter or digit first", out.Name)
	}
	return out, nil
}

// drain tells an instance, at its next sign of life, to take no new work or, with
// undo, to take it again.
func (s *service) drain(ctx context.Context, id string, undo bool, actor, reason string) error {
	if !s.store.Shared() {
		return fmt.Errorf("%w: an embedded database has one instance alone, and nobody could take its work: stop it instead; its runners go on, and the next start takes them up", release.ErrRefused)
	}
	entry := audit.Entry{Actor: actor, Action: "instance.drained", Reason: reason}
	if undo {
		entry.Action = "instance.undrained"
	}
	return s.store.SetDraining(ctx, id, !undo, entry)
}
