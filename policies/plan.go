package policies

import (
	"cmp"
	"maps"
	"slices"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// PlanInput is what a plan says to the rules: the document that rules on the
// plan see as "input". Every field is always present in its JSON and no list is
// null. Values that the plan marks as sensitive are the string "(sensitive)",
// and so is every copy of them that can be found: a rule that needs a value must
// say what it makes of one that it cannot see.
type PlanInput struct {
	Format int    `json:"format"` // the version of this document: 2
	Target Target `json:"target"`
	Kind   string `json:"kind"` // what the run is for: deploy, drift, rollback, destroy or plan

	Providers []PlanProvider `json:"providers"`
	// ResourceChanges are all resources and data sources of the plan, those
	// without a change ("no-op") included.
	ResourceChanges []ResourceChange `json:"resource_changes"`
	Drift           []ResourceChange `json:"drift"` // what changed outside of the code
	Outputs         []OutputChange   `json:"outputs"`
	// Destroys counts managed resources that are destroyed, replacements included.
	Destroys int `json:"destroys"`
	// Accounts are the AWS accounts that the plan names as somebody's own.
	Accounts []AccountUse `json:"accounts"`
	// Programs are what the plan's code starts, also in downloaded modules.
	Programs []Program `json:"programs"`
}

// PlanProvider is a provider that the plan configures, or that has resources in
// it or in the state before it.
type PlanProvider struct {
	Name            string `json:"name"`             // as the engine writes it
	ProviderAddress string `json:"provider_address"` // normal form, empty where it is malformed
	UsedBy          string `json:"used_by"`          // address of the first user in alphabetical order
	Uses            int    `json:"uses"`             // how many users there are, at least 1
}

// ResourceChange is what the plan does to one resource or data source.
type ResourceChange struct {
	Address         string `json:"address"`
	PreviousAddress string `json:"previous_address"` // where it was moved from; empty where it was not
	Module          string `json:"module"`           // address of its module; empty for the root module
	Mode            string `json:"mode"`             // managed or data
	Type            string `json:"type"`
	Name            string `json:"name"`
	ProviderAddress string `json:"provider_address"` // as in PlanProvider
	// Actions are no-op, create, read, update, delete or forget; a replacement has
	// both delete and create.
	Actions  []string `json:"actions"`
	Reason   string   `json:"reason"` // the engine's, such as replace_because_tainted; empty where it gives none
	Deposed  bool     `json:"deposed"`
	Imported bool     `json:"imported"`
	// Before and After are the attributes; null where there is no such side.
	// AfterUnknown has true in the place of each that only the apply will tell.
	Before       any `json:"before"`
	After        any `json:"after"`
	AfterUnknown any `json:"after_unknown"`
}

// OutputChange is what the plan does to one output of the root module.
type OutputChange struct {
	Name         string   `json:"name"`
	Actions      []string `json:"actions"`
	Sensitive    bool     `json:"sensitive"` // then Before and After are "(sensitive)"
	Before       any      `json:"before"`
	After        any      `json:"after"`
	AfterUnknown any      `json:"after_unknown"`
}

// whole is how much of a plan goes into an input.
type whole bool

// planInput takes the facts out of a plan. The whole document, for users' rules,
// has every attribute, without what is sensitive; the other one, for the bundled
// rules, has of the attributes only those that they look at, as they are: code
// must not hide from them what it marks as sensitive.
func planInput(plan *tfjson.Plan, spec release.PolicySpec, all whole) PlanInput {
	b := planBuilder{plan: plan, masker: newMasker(plan), all: all}
	in := PlanInput{Format: InputFormat, Target: targetOf(spec), Kind: string(spec.Kind),
		Providers: planProviders(plan), ResourceChanges: b.changes(plan.ResourceChanges), Drift: b.changes(plan.ResourceDrift),
		Outputs: b.outputs(), Accounts: b.accounts(), Programs: planPrograms(plan)}
	for _, change := range in.ResourceChanges {
		if change.Mode != string(tfjson.DataResourceMode) && slices.Contains(change.Actions, string(tfjson.ActionDelete)) {
			in.Destroys++
		}
	}
	return in
}

// planBuilder makes one PlanInput.
type planBuilder struct {
	plan   *tfjson.Plan
	masker *masker
	all    whole
}

func (b planBuilder) changes(list []*tfjson.ResourceChange) []ResourceChange {
	out := make([]ResourceChange, 0, len(list))
	for _, change := range list {
		if change == nil {
			continue
		}
		c := ResourceChange{Address: b.masker.text(change.Address), PreviousAddress: b.masker.text(change.PreviousAddress),
			Module: b.masker.text(change.ModuleAddress), Mode: string(change.Mode), Type: change.Type, Name: change.Name,
			ProviderAddress: providerAddress(change.ProviderName), Reason: string(change.ActionReason),
			Deposed: change.DeposedKey != "", Actions: []string{}}
		if values := change.Change; values != nil {
			c.Actions, c.Imported = actionsOf(values), values.Importing != nil
			b.attributes(&c, values)
		}
		out = append(out, c)
	}
	return out
}

func actionsOf(c *tfjson.Change) []string {
	out := make([]string, 0, len(c.Actions))
	for _, action := range c.Actions {
		out = append(out, string(action))
	}
	return out
}

// tagAttributes are those that the bundled rules look at.
var tagAttributes = []string{"tags", "tags_all", "tag"}

// attributes fills in both sides of a change.
func (b planBuilder) attributes(c *ResourceChange, values *tfjson.Change) {
	if !b.all {
		c.After, c.AfterUnknown = pick(values.After), pick(values.AfterUnknown)
		return
	}
	c.Before = b.masker.attributes(values.Before, values.BeforeSensitive)
	c.After = b.masker.attributes(values.After, values.AfterSensitive)
	c.AfterUnknown = b.masker.unknown(values.AfterUnknown, values.AfterSensitive)
}

// pick leaves the tags of a resource's attributes.
func pick(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for _, name := range tagAttributes {
		if value, ok := object[name]; ok {
			out[name] = value
		}
	}
	return out
}

func (b planBuilder) outputs() []OutputChange {
	out := []OutputChange{}
	if !b.all {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(b.plan.OutputChanges)) {
		c := b.plan.OutputChanges[name]
		if c == nil {
			continue
		}
		o := OutputChange{Name: name, Actions: actionsOf(c)}
		before, after := c.BeforeSensitive, c.AfterSensitive
		if o.Sensitive = anyMarked(before) || anyMarked(after); o.Sensitive { // as a whole
			before, after = true, true
		}
		o.Before, o.After = b.masker.clean(c.Before, before), b.masker.clean(c.After, after)
		o.AfterUnknown = b.masker.unknown(c.AfterUnknown, after)
		out = append(out, o)
	}
	return out
}

// planProviders lists every provider of a plan.
func planProviders(plan *tfjson.Plan) []PlanProvider {
	users := planUsers{}
	if plan.PlannedValues != nil {
		users.addModule(plan.PlannedValues.RootModule)
	}
	if plan.PriorState != nil && plan.PriorState.Values != nil {
		users.addModule(plan.PriorState.Values.RootModule)
	}
	for _, change := range slices.Concat(plan.ResourceChanges, plan.ResourceDrift) {
		users.addChange(change)
	}
	for _, deferred := range plan.DeferredChanges {
		if deferred != nil {
			users.addChange(deferred.ResourceChange)
		}
	}
	for _, action := range plan.ActionInvocations {
		if action != nil {
			users.add(action.ProviderName, action.Address)
		}
	}
	if plan.Config != nil {
		for key, provider := range plan.Config.ProviderConfigs {
			if provider != nil {
				users.add(cmp.Or(provider.FullName, provider.Name), "provider."+key)
			}
		}
	}
	return users.list()
}

// planUsers holds, per provider, the addresses of what uses it.
type planUsers map[string]map[string]bool

func (u planUsers) add(provider, address string) {
	if u[provider] == nil {
		u[provider] = map[string]bool{}
	}
	u[provider][address] = true
}

func (u planUsers) addChange(change *tfjson.ResourceChange) {
	if change != nil {
		u.add(change.ProviderName, change.Address)
	}
}

// addModule adds a module's resources and those of its children. The decoder of
// the plan bounds how deep they are nested.
func (u planUsers) addModule(module *tfjson.StateModule) {
	if module == nil {
		return
	}
	for _, resource := range module.Resources {
		if resource != nil {
			u.add(resource.ProviderName, resource.Address)
		}
	}
	for _, child := range module.ChildModules {
		u.addModule(child)
	}
}

func (u planUsers) list() []PlanProvider {
	list := []PlanProvider{}
	for _, name := range slices.Sorted(maps.Keys(u)) {
		list = append(list, PlanProvider{Name: name, ProviderAddress: providerAddress(name),
			UsedBy: slices.Min(slices.Collect(maps.Keys(u[name]))), Uses: len(u[name])})
	}
	return list
}
