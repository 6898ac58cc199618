package terraform

import (
	tfjson "github.com/hashicorp/terraform-json"

	"github.com/waymark-cd/waymark/release"
)

// longestAddress bounds a resource's address, type and provider, in bytes.
const longestAddress = 1000

// Content lists the resources of a state, those of all modules, and nothing of what
// they hold. A name that is too long to be one is left out.
func Content(state *tfjson.State) release.StateContent {
	c := release.StateContent{Resources: []release.Resource{}}
	if state != nil && state.Values != nil {
		addContent(&c, state.Values.RootModule)
	}
	return c
}

func addContent(c *release.StateContent, m *tfjson.StateModule) {
	if m == nil {
		return
	}
	for _, r := range m.Resources {
		switch {
		case len(c.Resources) >= release.MaxResources:
			c.Cut = true
			return
		case r.DeposedKey != "", r.Mode != tfjson.ManagedResourceMode && r.Mode != tfjson.DataResourceMode:
			continue
		case max(len(r.Address), len(r.Type), len(r.ProviderName)) > longestAddress:
			c.Cut = true
			continue
		}
		c.Resources = append(c.Resources, release.Resource{Address: r.Address, Type: r.Type, Provider: r.ProviderName, Mode: string(r.Mode)})
	}
	for _, child := range m.ChildModules {
		addContent(c, child)
	}
}
