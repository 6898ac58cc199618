package waymark.plan_test

import data.waymark.lib
import data.waymark.plan

settings := {
	"providers": [{"pattern": "time", "regex": "^hashicorp/time$", "query": false}], "modules": [],
	"data_bearing_types": ["mine_*_store"], "max_destroys": 2, "required_tags": ["owner", "cost"], "accounts": ["999999999999"],
}

lax := object.union(settings, {"providers": [], "required_tags": []})

provider(name, address, uses) := {"name": name, "provider_address": address, "used_by": "a_b.c", "uses": uses}

empty := {
	"target": {"env": "dev", "scope": "global", "team": "t", "account": "111111111111", "protected": false}, "kind": "deploy",
	"providers": [], "resource_changes": [], "drift": [], "outputs": [], "destroys": 0, "accounts": [], "programs": [],
}

judged(changes, settings) := result if {
	result := plan.findings with input as object.union(empty, changes) with data.waymark.settings as settings
}

change(type, actions, after, unknown) := {
	"address": sprintf("%s.x", [type]), "mode": "managed", "type": type, "name": "x", "actions": actions,
	"before": null, "after": after, "after_unknown": unknown,
}

rules(found) := {f.rule | some f in found}

test_provider_denied if {
	some f in judged({"providers": [provider("example.org/evil/time", "example.org/evil/time", 2)]}, settings)
	f.rule == "allowed-providers"
	f.resource == "a_b.c"
	contains(f.message, `"example.org/evil/time", which is not allowed (2 uses, first "a_b.c")`)
}

test_malformed_provider_denied if {
	count(judged({"providers": [provider("registry.terraform.io/-/aws", "", 1)]}, settings)) == 1
}

test_provider_allowed if {
	count(judged({"providers": [provider("registry.opentofu.org/hashicorp/time", "hashicorp/time", 1)]}, settings)) == 0
	count(judged({"providers": [provider("terraform.io/builtin/terraform", "terraform.io/builtin/terraform", 1)]}, settings)) == 0
	count(judged({"providers": [provider("x", "evil/x", 1)]}, lax)) == 0
}

test_data_bearing if {
	destroyed := judged({"resource_changes": [change("aws_s3_bucket", ["delete"], null, {})]}, lax)
	rules(destroyed) == {"data-bearing"}
	some f in destroyed
	contains(f.message, `"aws_s3_bucket" holds data and would be destroyed`)
	f.resource == "aws_s3_bucket.x"
	replaced := judged({"resource_changes": [change("aws_s3_bucket", ["create", "delete"], {}, {})]}, lax)
	some g in replaced
	contains(g.message, "replaced")
}

test_data_bearing_is_extensible if {
	rules(judged({"resource_changes": [change("mine_fast_store", ["delete"], null, {})]}, lax)) == {"data-bearing"}
	count(judged({"resource_changes": [change("mine_fast_stores", ["delete"], null, {})]}, lax)) == 0
}

test_other_destroys_are_no_matter_of_data if {
	count(judged({"resource_changes": [change("aws_instance", ["delete"], null, {})]}, lax)) == 0
	count(judged({"resource_changes": [change("aws_s3_bucket", ["update"], {}, {})]}, lax)) == 0
	count(judged({"resource_changes": [change("aws_s3_bucket", ["forget"], null, {})]}, lax)) == 0
	data_source := object.union(change("aws_s3_bucket", ["delete"], null, {}), {"mode": "data"})
	count(judged({"resource_changes": [data_source]}, lax)) == 0
}

test_max_destroys if {
	rules(judged({"destroys": 3}, lax)) == {"max-destroys"}
	count(judged({"destroys": 2}, lax)) == 0
	count(judged({"destroys": 300, "kind": "destroy"}, lax)) == 0
}

test_max_destroys_without_a_cap_denies if {
	rules(judged({"destroys": 1}, object.remove(lax, ["max_destroys"]))) == {"max-destroys"}
}

tagged(after, unknown) := judged({"resource_changes": [change("aws_vpc", ["create"], after, unknown)]}, object.union(settings, {"providers": []}))

test_required_tags_denied if {
	some f in tagged({"tags": {"owner": "a"}}, {})
	f.rule == "required-tags"
	f.message == "the resource lacks the tag cost"
	some g in tagged({"tags": null}, {})
	g.message == "the resource lacks the tags owner, cost"
	some h in tagged({"tags": {"owner": "a", "cost": ""}}, {})
	h.message == "the resource lacks the tag cost"
	some i in tagged({"tags": null}, {"tags_all": true})
	i.message == "the resource lacks the tags owner, cost, as far as can be seen before the apply"
	some j in tagged({"tags": "(sensitive)"}, {})
	j.rule == "required-tags"
}

test_required_tags_allowed if {
	count(tagged({"tags": {"owner": "a", "cost": "b"}}, {})) == 0
	count(tagged({"tags": {"owner": "a"}, "tags_all": {"owner": "a", "cost": "b"}}, {})) == 0
	count(tagged({"tags": {"owner": "a"}}, {"tags": {"cost": true}})) == 0
	count(tagged({"tags": [{"key": "owner", "value": "a"}, {"key": "cost", "value": "b"}]}, {})) == 0
	count(tagged({"tag": [{"key": "owner", "value": "a"}, {"key": "cost", "value": "b"}]}, {})) == 0
	count(tagged({"cidr": "10.0.0.0/8"}, {"id": true})) == 0
	count(judged({"resource_changes": [change("aws_vpc", ["no-op"], {"tags": {}}, {})]}, object.union(settings, {"providers": []}))) == 0
	count(judged({"resource_changes": [change("aws_vpc", ["create"], {"tags": {}}, {})]}, lax)) == 0
}

use(account) := {"address": "aws_vpc.v", "by": "owner_id", "account": account, "identity": false, "sensitive": false}

test_team_account_denied if {
	some f in judged({"accounts": [use("222222222222")]}, lax)
	f.rule == "team-account"
	f.resource == "aws_vpc.v"
	startswith(f.message, "the resource is (owner_id) of the account 222222222222, and the target's is 111111111111: ")
	some g in judged({"accounts": [object.union(use("222222222222"), {"identity": true, "sensitive": true})]}, lax)
	startswith(g.message, "the plan was made as a caller or for a provider (owner_id) of another account, ")
}

test_team_account_allowed if {
	count(judged({"accounts": [use("111111111111"), use("999999999999")]}, lax)) == 0
}

test_team_account_without_an_account if {
	nowhere := {"target": {"env": "dev", "scope": "global", "team": "t", "account": "", "protected": false}}
	count(judged(object.union(nowhere, {"accounts": [use("222222222222")]}), lax)) == 0
}

program(type) := {"address": "module.m.terraform_data.d", "kind": "provisioner", "type": type}

test_programs if {
	protected := {"target": {"env": "prod", "scope": "global", "team": "t", "account": "", "protected": true}}
	some f in judged(object.union(protected, {"programs": [program("local-exec")]}), lax)
	f.rule == "protected-program"
	f.resource == "module.m.terraform_data.d"
	count(judged(object.union(protected, {"programs": [program("file")]}), lax)) == 0
	count(judged({"programs": [program("local-exec")]}, lax)) == 0
}

test_lib if {
	changes := [
		change("a_b", ["create"], {}, {}), change("a_b", ["no-op"], {}, {}), change("a_b", ["delete"], {}, {}),
		change("a_c", ["delete", "create"], {}, {}),
	]
	count(lib.changed_of("a_b")) == 1 with input as {"resource_changes": changes}
	count(lib.destroyed_of("a_b")) == 1 with input as {"resource_changes": changes}
	lib.replaced(changes[3])
	not lib.replaced(changes[2])
	lib.hidden("(sensitive)")
	not lib.hidden("sensitive")
}
