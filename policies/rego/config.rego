# What the configuration's files may say, judged before any init. The input is
# the document that the type Input of the package policies describes.
package waymark.config

import data.waymark.sources

findings contains finding(entry, "allowed-providers", "error", message) if {
	some entry in input.required_providers
	not sources.provider_allowed(entry.provider_address)
	message := sprintf(
		"provider %+q has the source %+q, which is not allowed: remove it, or have the service's allowed providers extended",
		[entry.provider, entry.source],
	)
}

# A provider that is used and not declared is reported once per module.
findings contains finding(first, "allowed-providers", "error", message) if {
	some key in undeclared
	uses := [use | some use in provideruses; [use.module, use.provider] == key]
	first := uses[0]
	message := undeclared_message(first)
}

undeclared_message(use) := "a provider is named in a way that cannot be read from the code: name it plainly, such as aws.west" if {
	use.provider_address == ""
} else := sprintf(
	"provider %+q is used without a source, which means %+q, and that is not allowed: remove it, or have the service's allowed providers extended",
	[use.provider, use.provider_address],
)

undeclared contains [use.module, use.provider] if {
	some use in provideruses
	not [use.module, use.provider] in declared
	not sources.provider_allowed(use.provider_address)
}

declared contains [entry.module, entry.provider] if some entry in input.required_providers

# A removed block runs its provisioners and needs no provider of its own.
provideruses := array.concat(
	[provider | some provider in input.providers],
	[resource | some resource in input.resources; resource.kind != "removed"],
)

findings contains finding(call, "allowed-modules", "error", message) if {
	some call in input.module_calls
	call.outside
	message := sprintf(
		"module %+q has the source %+q, which leads out of the repository: use a folder inside it or a registry",
		[call.name, call.source],
	)
}

findings contains finding(call, "allowed-modules", "error", message) if {
	some call in input.module_calls
	call.computed
	message := sprintf(
		"module %+q has a source that is computed, so that it cannot be checked before it runs: write it as a plain string",
		[call.name],
	)
}

findings contains finding(call, "allowed-modules", "error", message) if {
	some call in input.module_calls
	not call.local
	not call.computed
	call.source != ""
	not sources.module_allowed(call)
	message := sprintf(
		"module %+q has the source %+q, which is not allowed: use another, or have the service's allowed modules extended",
		[call.name, call.source],
	)
}

findings contains finding(place, "engine-folder", "error", message) if {
	some folder in input.engine_folders
	place := {"file": folder, "line": 0}
	message := sprintf(
		"the repository holds %+q, from which the engine would load plug-ins or modules that nobody checked: remove it and add it to .gitignore",
		[folder],
	)
}

findings contains finding(resource, "runs-program", "notice", message) if {
	some resource in input.resources
	resource.kind in {"data", "action", "ephemeral"}
	resource.type in {"external", "local_command"}
	message := sprintf("%s %+q starts a program where the run takes place", [resource.kind, resource.type])
}

findings contains finding(place, "runs-program", "notice", message) if {
	some resource in input.resources
	some provisioner in resource.provisioners
	place := object.union(resource, {"line": provisioner.line})
	message := sprintf("the provisioner %+q acts outside of any provider", [provisioner.type])
}

findings contains finding(entry, "runs-program", "notice", message) if {
	some entry in input.encryption
	entry.type == "external"
	message := sprintf("the state encryption's %s %+q starts a program where the run takes place", [entry.kind, entry.name])
}

finding(place, rule, severity, message) := {
	"file": place.file,
	"line": place.line,
	"rule": rule,
	"severity": severity,
	"message": message,
	"resource": address(place),
}

address(place) := concat(".", [place.type, place.name]) if {
	place.kind == "resource"
} else := concat(".", [place.kind, place.type, place.name]) if {
	place.kind in {"data", "ephemeral", "action"}
} else := ""
