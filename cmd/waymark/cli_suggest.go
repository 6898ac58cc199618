package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/waymark-cd/waymark/api"
)

// each makes suggestions of a list, once each and in order.
func each[T any](all []T, of func(T) suggestion) []suggestion {
	var out []suggestion
	for _, x := range all {
		if s := of(x); s.text != "" {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b suggestion) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(out, func(a, b suggestion) bool { return a.text == b.text })
}

func fromTargets(of func(api.Target) suggestion) lister {
	return func(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
		list, err := c.Targets(ctx)
		return each(list.Targets, of), err
	}
}

func targetNames(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	return fromTargets(func(t api.Target) suggestion {
		about := "nothing deployed"
		if t.Deployed != nil {
			about = t.Deployed.Version
		}
		return suggestion{t.String(), about}
	})(ctx, c, a)
}

func environments(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	return fromTargets(func(t api.Target) suggestion { return suggestion{text: t.Env} })(ctx, c, a)
}

func teams(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	return fromTargets(func(t api.Target) suggestion { return suggestion{text: t.Team} })(ctx, c, a)
}

// places are what may be frozen: environments, with or without a scope and a team.
func places(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Targets(ctx)
	var out []string
	for _, t := range list.Targets {
		out = append(out, t.Env, t.Env+"_"+t.Scope, t.Env+"/"+t.Team, t.String())
	}
	return each(out, func(s string) suggestion { return suggestion{text: s} }), err
}

// frozen are the freezes in force, by place and by id.
func frozen(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Freezes(ctx, false)
	var out []suggestion
	for _, f := range list.Freezes {
		out = append(out, suggestion{f.Where, f.Reason}, suggestion{f.ID, f.Where + ": " + f.Reason})
	}
	return out, err
}

// tagNames completes a tag in two steps: its target, and then the versions that
// the target's tags have.
func tagNames(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	if len(a.args) > 0 {
		return nil, nil
	}
	at := strings.LastIndex(a.word, "/")
	if at < 0 || strings.Count(a.word, "/") < 2 {
		return fromTargets(func(t api.Target) suggestion { return suggestion{text: t.String() + "/"} })(ctx, c, a)
	}
	list, err := c.Releases(ctx, api.ReleaseQuery{Target: a.word[:at], Limit: completionLimit})
	var out []suggestion
	for _, r := range list.Releases {
		out = append(out, suggestion{r.Tag, r.Decision})
	}
	return out, err
}

// earlierVersions are those that a rollback of the target before may name.
func earlierVersions(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	if len(a.args) == 0 {
		return nil, nil
	}
	list, err := c.Runs(ctx, api.RunQuery{Target: a.args[0], State: api.StateSucceeded, Limit: completionLimit})
	var out []suggestion
	for _, r := range list.Runs {
		out = append(out, suggestion{r.Version, "run " + r.ID})
	}
	return out, err
}

// runIDs are those of the latest runs in one of the states; none: in any.
func runIDs(states ...string) lister {
	if len(states) == 0 {
		states = []string{""}
	}
	return func(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
		var out []suggestion
		for _, state := range states {
			list, err := c.Runs(ctx, api.RunQuery{State: state, Limit: completionLimit})
			if err != nil {
				return nil, err
			}
			for _, r := range list.Runs {
				out = append(out, suggestion{r.ID, r.Name() + " " + r.State})
			}
		}
		return out, nil
	}
}

// reportGates are the gates that wrote a report of the run before.
func reportGates(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	list, err := c.Reports(ctx, a.args[0])
	return each(list.Reports, func(r api.Report) suggestion { return suggestion{r.Gate, r.Format} }), err
}

func repositories(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Runs(ctx, api.RunQuery{Limit: completionLimit})
	return each(list.Runs, func(r api.Run) suggestion { return suggestion{text: r.Repository} }), err
}

func instanceNames(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Instances(ctx)
	return each(list.Instances, func(i api.Instance) suggestion {
		return suggestion{i.Name, fmt.Sprintf("%s, %s", i.State, runsText(i.RunsInHand))}
	}), err
}

func tokenNames(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Tokens(ctx)
	return each(list.Tokens, func(t api.Token) suggestion {
		if t.State != api.TokenValid {
			return suggestion{}
		}
		return suggestion{t.Name, "of " + t.User}
	}), err
}

func consumerNames(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	list, err := c.Consumers(ctx)
	return each(list.Consumers, func(c api.Consumer) suggestion {
		return suggestion{c.Name, fmt.Sprintf("%d entries behind", c.LagEntries)}
	}), err
}

func lockIDs(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	target := ""
	if len(a.args) > 0 {
		target = a.args[0]
	}
	list, err := c.Locks(ctx, target)
	return each(list.Locks, func(l api.Lock) suggestion { return suggestion{l.ID, "held by " + cmp.Or(l.Who, "somebody unnamed")} }), err
}

func fromInventory(ctx context.Context, c *api.Client, a asked, of func(api.Resource) suggestion) ([]suggestion, error) {
	q := api.InventoryQuery{Limit: completionLimit}
	if len(a.args) > 0 {
		q.Target = a.args[0]
	}
	list, err := c.Inventory(ctx, q)
	return each(list.Resources, of), err
}

func resourceTypes(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	return fromInventory(ctx, c, a, func(r api.Resource) suggestion { return suggestion{text: r.Type} })
}

func providers(ctx context.Context, c *api.Client, a asked) ([]suggestion, error) {
	return fromInventory(ctx, c, a, func(r api.Resource) suggestion { return suggestion{text: r.Provider} })
}

// eventTypes are those that the latest entries of the audit log have.
func eventTypes(ctx context.Context, c *api.Client, _ asked) ([]suggestion, error) {
	first, err := c.Audit(ctx, 0, 1)
	if err != nil {
		return nil, err
	}
	page, err := c.Audit(ctx, max(0, first.Head.Size-auditPage), auditPage)
	types := []string{api.RunChanged}
	for _, e := range page.Entries {
		types = append(types, e.Action)
	}
	return each(types, func(s string) suggestion { return suggestion{text: s} }), err
}

// pools are those of the configuration that serve is given; no service is asked.
func pools(_ context.Context, _ *api.Client, a asked) ([]suggestion, error) {
	cfg, err := loadConfig(a.cmd.Flag("config").Value.String())
	if err != nil {
		return nil, err
	}
	return each(cfg.PoolNames(), func(s string) suggestion { return suggestion{text: s} }), nil
}
