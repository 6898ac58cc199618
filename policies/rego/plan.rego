# What a plan may do. The input is the document of
# docs/schemas/policy-plan.schema.json; of attributes it has the tags alone, and
# those as well as accounts as they are, also where the code marks them as
# sensitive. A finding names its rule; what comes of it is the rule's level.
package waymark.plan

import data.waymark.databearing
import data.waymark.lib
import data.waymark.settings
import data.waymark.sources

# A downloaded module may bring a provider that the repository's files did not
# show, and the prior state one that they no longer show.
findings contains finding(provider.used_by, "allowed-providers", message) if {
	some provider in input.providers
	not sources.provider_allowed(provider.provider_address)
	message := sprintf(
		"the plan uses the provider %+q, which is not allowed%s: remove what needs it, or have the service's allowed providers extended",
		[provider.name, users(provider)],
	)
}

users(provider) := sprintf(" (%d uses, first %+q)", [provider.uses, provider.used_by]) if {
	provider.uses > 1
} else := sprintf(" (by %+q)", [provider.used_by])

findings contains finding(change.address, "data-bearing", message) if {
	some change in input.resource_changes
	lib.destroyed(change)
	holds_data(change.type)
	message := sprintf("%+q holds data and would be %s", [change.type, verb(change)])
}

verb(change) := "replaced" if {
	lib.replaced(change)
} else := "destroyed"

holds_data(type) if type in databearing.types

holds_data(type) if {
	some pattern in settings.data_bearing_types
	glob.match(pattern, null, type)
}

# A run of the kind destroy is there to destroy, and has approvals of its own.
findings contains finding("", "max-destroys", message) if {
	not input.kind == "destroy"
	not few_destroys
	message := sprintf(
		"the plan destroys %v resources, replaced ones included, and %v are allowed: release the change in parts, or have max_destroys raised",
		[input.destroys, object.get(settings, "max_destroys", "none")],
	)
}

few_destroys if input.destroys <= settings.max_destroys

findings contains finding(change.address, "required-tags", message) if {
	some change in input.resource_changes
	lib.changed(change)
	taggable(change)
	missing := [tag | some tag in settings.required_tags; not lib.has_tag(change, tag)]
	count(missing) > 0
	message := sprintf(
		"the resource lacks the tag%s %s%s",
		[plural(count(missing)), concat(", ", missing), unseen(change)],
	)
}

taggable(change) if {
	some name in {"tags", "tags_all", "tag"}
	some side in {"after", "after_unknown"}
	_ = change[side][name]
}

plural(1) := ""

plural(n) := "s" if n > 1

unseen(change) := ", as far as can be seen before the apply" if {
	some name in {"tags", "tags_all", "tag"}
	change.after_unknown[name] == true
} else := ""

findings contains finding(use.address, "team-account", message) if {
	input.target.account != ""
	some use in input.accounts
	not account_allowed(use.account)
	message := sprintf(
		"%s of %s, and the target's is %s: correct it, or have the account added to the service's policy { accounts }",
		[what(use), named(use), input.target.account],
	)
}

account_allowed(account) if account == input.target.account

account_allowed(account) if account in settings.accounts

what(use) := sprintf("the plan was made as a caller or for a provider (%s)", [use.by]) if {
	use.identity
} else := sprintf("the resource is (%s)", [use.by])

named(use) := "another account" if {
	use.sensitive
} else := sprintf("the account %s", [use.account])

# A downloaded module may start programs that the repository's files did not show.
findings contains finding(program.address, "protected-program", message) if {
	not input.target.protected == false
	some program in input.programs
	not program.type == "file"
	message := sprintf("the %s %+q starts a program", [program.kind, program.type])
}

finding(resource, rule, message) := {
	"file": "",
	"line": 0,
	"rule": rule,
	"message": message,
	"resource": resource,
}
