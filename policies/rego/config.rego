# What the configuration's files may say, judged before any init. The input is
# the document of docs/schemas/policy-config.schema.json. A finding names its
# rule; what comes of it is the rule's level.
package waymark.config

import data.waymark.sources

findings contains finding(entry, "allowed-providers", message) if {
	some entry in input.required_providers
	not sources.provider_allowed(entry.provider_address)
	message := sprintf(
		"provider %+q has the source %+q, which is not allowed: remove it, or have the service's allowed providers extended",
		[entry.provider, entry.source],
	)
}

# A provider that is used and not declared is reported once per module.
findings contains finding(first, "allowed-providers", message) if {
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

findings contains finding(call, "allowed-modules", message) if {
	some call in input.module_calls
	call.outside
	message := sprintf(
		"module %+q has the source %+q, which leads out of the repository: use a folder inside it or a registry",
		[call.name, call.source],
	)
}

findings contains finding(call, "allowed-modules", message) if {
	some call in input.module_calls
	call.computed
	message := sprintf(
		"module %+q has a source that is computed, so that it cannot be checked before it runs: write it as a plain string",
		[call.name],
	)
}

findings contains finding(call, "allowed-modules", message) if {
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

findings contains finding(place, "engine-folder", message) if {
	some folder in input.engine_folders
	place := {"file": folder, "line": 0}
	message := sprintf(
		"the repository holds %+q, from which the engine would load plug-ins or modules that nobody checked: remove it and add it to .gitignore",
		[folder],
	)
}

# A switch of the operator tells programs in protected environments from others.
# Where nobody says that an environment is not protected, it is.
program_rule := "runs-program" if {
	input.target.protected == false
} else := "protected-program"

findings contains finding(resource, program_rule, message) if {
	some resource in input.resources
	resource.kind in {"data", "action", "ephemeral"}
	resource.type in {"external", "local_command"}
	message := sprintf("%s %+q starts a program where the run takes place", [resource.kind, resource.type])
}

findings contains finding(place, rule, message) if {
	some resource in input.resources
	some provisioner in resource.provisioners
	place := object.union(resource, {"line": provisioner.line})
	rule := provisioner_rule(provisioner.type)
	message := sprintf("the provisioner %+q acts outside of any provider", [provisioner.type])
}

# The provisioner "file" copies, and starts nothing.
provisioner_rule(type) := "runs-program" if {
	type == "file"
} else := program_rule

findings contains finding(entry, program_rule, message) if {
	some entry in input.encryption
	entry.type == "external"
	message := sprintf("the state encryption's %s %+q starts a program where the run takes place", [entry.kind, entry.name])
}

# The engines take no notice of a backend outside of the root module.
findings contains finding(entry, "backend-in-code", message) if {
	some entry in input.backends
	entry.module == input.stack
	input.configured_backend != ""
	entry.type != input.configured_backend
	message := sprintf(
		"the code keeps its state in %s, and the service's configuration in the backend %+q: leave the block out",
		[backend_name(entry.type), input.configured_backend],
	)
}

backend_name(type) := "a cloud workspace" if {
	type == "cloud"
} else := sprintf("the backend %+q", [type])

findings contains finding(place, "symlink-outside", message) if {
	some link in input.outside_links
	place := {"file": link.file, "line": 0}
	message := sprintf(
		"the symbolic link to %+q leaves the repository: %s; replace it by what it should lead to",
		[link.leads, link.reason],
	)
}

finding(place, rule, message) := {
	"file": place.file,
	"line": place.line,
	"rule": rule,
	"message": message,
	"resource": address(place),
}

address(place) := concat(".", [place.type, place.name]) if {
	place.kind == "resource"
} else := concat(".", [place.kind, place.type, place.name]) if {
	place.kind in {"data", "ephemeral", "action"}
} else := ""
