# What may be downloaded. The lists come from the service's configuration, as
# data.waymark.settings.providers and .modules; addresses come in normal form,
# and an empty one is malformed. An empty list allows everything; a list that is
# missing, nothing.
package waymark.sources

import data.waymark.settings

provider_allowed(_) if count(settings.providers) == 0

provider_allowed("terraform.io/builtin/terraform")

provider_allowed(address) if {
	some pattern in settings.providers
	regex.match(pattern.regex, address)
}

module_allowed(_) if count(settings.modules) == 0

module_allowed(call) if {
	some pattern in settings.modules
	not pattern.query
	regex.match(pattern.regex, call.address)
}

module_allowed(call) if {
	some pattern in settings.modules
	pattern.query
	regex.match(pattern.regex, concat("", [call.address, call.query]))
}
