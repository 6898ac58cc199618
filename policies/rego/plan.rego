# What a plan may do. The input is the document that the type PlanInput of the
# package policies describes.
package waymark.plan

import data.waymark.sources

# A downloaded module may bring a provider that the repository's files did not
# show, and the prior state one that they no longer show.
findings contains finding if {
	some provider in input.providers
	not sources.provider_allowed(provider.provider_address)
	finding := {
		"file": "",
		"line": 0,
		"rule": "allowed-providers",
		"severity": "error",
		"resource": provider.used_by,
		"message": sprintf(
			"the plan uses the provider %+q, which is not allowed%s: remove what needs it, or have the service's allowed providers extended",
			[provider.name, users(provider)],
		),
	}
}

users(provider) := sprintf(" (%d uses, first %+q)", [provider.uses, provider.used_by]) if {
	provider.uses > 1
} else := sprintf(" (by %+q)", [provider.used_by])
