package policies

import (
	"cmp"
	"maps"
	"slices"

	tfjson "github.com/hashicorp/terraform-json"
)

// PlanInput is what a plan says to the rules: the document that rules on the
// plan see as "input". It holds no value of any attribute.
type PlanInput struct {
	Format    int            `json:"format"` // InputFormat
	Providers []PlanProvider `json:"providers"`
}

// PlanProvider is a provider that the plan configures, or that has resources in
// it or in the state before it.
type PlanProvider struct {
	Name            string `json:"name"`             // as the engine writes it
	ProviderAddress string `json:"provider_address"` // normal form, empty where it is malformed
	UsedBy          string `json:"used_by"`          // address of the first user in alphabetical order
	Uses            int    `json:"uses"`             // how many users there are, at least 1
}

// planInput takes the facts out of a plan.
func planInput(plan *tfjson.Plan) PlanInput {
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
	return PlanInput{Format: InputFormat, Providers: users.list()}
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
