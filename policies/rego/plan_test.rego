package waymark.plan_test

import data.waymark.plan

settings := {"providers": [{"pattern": "time", "regex": "^hashicorp/time$", "query": false}], "modules": []}

provider(name, address, uses) := {"name": name, "provider_address": address, "used_by": "a_b.c", "uses": uses}

judged(providers, settings) := result if {
	result := plan.findings with input as {"providers": providers} with data.waymark.settings as settings
}

test_provider_denied if {
	some f in judged([provider("example.org/evil/time", "example.org/evil/time", 2)], settings)
	f.rule == "allowed-providers"
	f.severity == "error"
	f.resource == "a_b.c"
	contains(f.message, `"example.org/evil/time", which is not allowed (2 uses, first "a_b.c")`)
}

test_malformed_provider_denied if count(judged([provider("registry.terraform.io/-/aws", "", 1)], settings)) == 1

test_provider_allowed if {
	count(judged([provider("registry.opentofu.org/hashicorp/time", "hashicorp/time", 1)], settings)) == 0
	count(judged([provider("terraform.io/builtin/terraform", "terraform.io/builtin/terraform", 1)], settings)) == 0
	count(judged([provider("x", "evil/x", 1)], {"providers": [], "modules": []})) == 0
}
