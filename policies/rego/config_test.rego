package waymark.config_test

import data.waymark.config

hashicorp_only := {"providers": [{"pattern": "hashicorp/*", "regex": "^hashicorp/[a-z]+$", "query": false}], "modules": []}

org_modules := {"providers": [], "modules": [
	{"pattern": "org/*/aws", "regex": "^org/[a-z]+/aws$", "query": false},
	{"pattern": "git::https://git.example.org/x?ref=v1", "regex": `^git::https://git\.example\.org/x\?ref=v1$`, "query": true},
]}

everything := {"providers": [], "modules": []}

empty := {
	"target": {"env": "dev", "scope": "global", "team": "t", "account": "", "protected": false},
	"stack": ".", "configured_backend": "s3",
	"required_providers": [], "providers": [], "module_calls": [], "backends": [],
	"resources": [], "encryption": [], "engine_folders": [], "outside_links": [],
}

protected := {"target": {"env": "prod", "scope": "global", "team": "t", "account": "", "protected": true}}

entry(provider, address) := {
	"module": ".", "file": "main.tf", "line": 3,
	"provider": provider, "source": address, "provider_address": address,
}

block(kind, type, address) := {
	"module": ".", "file": "main.tf", "line": 7, "kind": kind, "type": type, "name": "x",
	"provider": split(type, "_")[0], "provider_address": address, "provisioners": [],
}

call(fields) := object.union(
	{
		"module": ".", "file": "main.tf", "line": 9, "name": "m", "source": "", "address": "", "query": "",
		"local": false, "folder": "", "outside": false, "computed": false,
	},
	fields,
)

judged(changes, settings) := result if {
	result := config.findings with input as object.union(empty, changes) with data.waymark.settings as settings
}

has(findings, rule, text) if {
	some f in findings
	f.rule == rule
	f.file == "main.tf"
	f.line > 0
	contains(f.message, text)
}

test_required_provider_denied if {
	got := judged({"required_providers": [entry("time", "evil/time")]}, hashicorp_only)
	count(got) == 1
	has(got, "allowed-providers", `"evil/time"`)
}

test_required_provider_malformed_denied if {
	count(judged({"required_providers": [entry("time", "")]}, hashicorp_only)) == 1
}

test_required_provider_allowed if {
	count(judged({"required_providers": [entry("time", "hashicorp/time")]}, hashicorp_only)) == 0
	count(judged({"required_providers": [entry("time", "evil/time")]}, everything)) == 0
}

test_missing_settings_deny if {
	count(judged({"required_providers": [entry("time", "hashicorp/time")]}, {})) == 1
	count(judged({"module_calls": [call({"source": "org/vpc/aws", "address": "org/vpc/aws"})]}, {})) == 1
}

only_time := {"providers": [{"pattern": "time", "regex": "^hashicorp/time$", "query": false}], "modules": []}

test_undeclared_provider_denied_once if {
	resources := [block("resource", "null_resource", "hashicorp/null"), block("data", "null_data_source", "hashicorp/null")]
	got := judged({"resources": resources}, only_time)
	count(got) == 1
	has(got, "allowed-providers", `"hashicorp/null"`)
}

test_undeclared_provider_block_denied if {
	got := judged({"providers": [entry("aws", "hashicorp/aws")]}, only_time)
	has(got, "allowed-providers", `"hashicorp/aws"`)
}

test_unreadable_provider_denied if {
	got := judged({"resources": [block("resource", "aws_vpc", "")]}, only_time)
	has(got, "allowed-providers", "cannot be read from the code")
}

test_undeclared_provider_allowed if {
	count(judged({"resources": [block("resource", "time_sleep", "hashicorp/time")]}, only_time)) == 0
	count(judged({"resources": [block("resource", "terraform_data", "terraform.io/builtin/terraform")]}, only_time)) == 0
	count(judged({"resources": [block("removed", "", "")]}, only_time)) == 0
}

test_declared_provider_is_reported_at_its_declaration if {
	got := judged(
		{"required_providers": [entry("null", "evil/null")], "resources": [block("resource", "null_resource", "evil/null")]},
		only_time,
	)
	count(got) == 1
	has(got, "allowed-providers", "has the source")
}

test_module_outside_denied if {
	has(judged({"module_calls": [call({"local": true, "outside": true, "source": "../x"})]}, everything), "allowed-modules", "leads out")
}

test_module_inside_allowed if {
	count(judged({"module_calls": [call({"local": true, "source": "./x", "folder": "x"})]}, org_modules)) == 0
}

test_module_computed_denied if {
	has(judged({"module_calls": [call({"computed": true})]}, everything), "allowed-modules", "computed")
}

test_module_source_denied if {
	got := judged({"module_calls": [call({"source": "evil/vpc/aws", "address": "evil/vpc/aws"})]}, org_modules)
	count(got) == 1
	has(got, "allowed-modules", `"evil/vpc/aws"`)
	count(judged({"module_calls": [call({"source": "org/../evil"})]}, org_modules)) == 1
}

test_module_source_allowed if {
	allowed := call({"source": "org/vpc/aws", "address": "org/vpc/aws"})
	count(judged({"module_calls": [allowed]}, org_modules)) == 0
	count(judged({"module_calls": [call({"source": "evil/vpc/aws", "address": "evil/vpc/aws"})]}, everything)) == 0
}

# The base block of an override names the source.
test_module_without_source_is_left_to_the_engine if count(judged({"module_calls": [call({})]}, org_modules)) == 0

test_module_query if {
	pinned := call({"source": "s", "address": "git::https://git.example.org/x", "query": "?ref=v1"})
	count(judged({"module_calls": [pinned]}, org_modules)) == 0
	count(judged({"module_calls": [object.union(pinned, {"query": "?ref=v2"})]}, org_modules)) == 1
	count(judged({"module_calls": [object.union(pinned, {"query": ""})]}, org_modules)) == 1
	queried := call({"source": "s", "address": "org/vpc/aws", "query": "?ref=v2"})
	count(judged({"module_calls": [queried]}, org_modules)) == 0
}

test_engine_folder_denied if {
	got := judged({"engine_folders": [".terraform"]}, everything)
	count(got) == 1
	some f in got
	[f.rule, f.file] == ["engine-folder", ".terraform"]
}

test_programs_are_listed if {
	local_exec := object.union(
		block("resource", "terraform_data", "terraform.io/builtin/terraform"),
		{"provisioners": [{"type": "local-exec", "line": 12}]},
	)
	got := judged({"resources": [local_exec, block("data", "external", "hashicorp/external")]}, everything)
	count(got) == 2
	has(got, "runs-program", `"local-exec"`)
	has(got, "runs-program", `data "external"`)
	{f.line | some f in got} == {7, 12}
	{f.resource | some f in got} == {"terraform_data.x", "data.external.x"}
}

test_encryption_program_is_listed if {
	key_provider := {"module": ".", "file": "main.tf", "line": 2, "kind": "key_provider", "type": "external", "name": "k"}
	has(judged({"encryption": [key_provider]}, everything), "runs-program", "key_provider")
	count(judged({"encryption": [object.union(key_provider, {"type": "pbkdf2"})]}, everything)) == 0
}

programs := {
	"resources": [
		block("data", "external", "hashicorp/external"),
		object.union(
			block("resource", "terraform_data", "terraform.io/builtin/terraform"),
			{"provisioners": [{"type": "remote-exec", "line": 12}]},
		),
	],
	"encryption": [{"module": ".", "file": "main.tf", "line": 2, "kind": "key_provider", "type": "external", "name": "k"}],
}

test_programs_in_protected_environments if {
	got := judged(object.union(programs, protected), everything)
	count(got) == 3
	every f in got {
		f.rule == "protected-program"
	}
}

# Where nobody says that an environment is not protected, it is.
test_programs_in_unknown_environments if {
	got := config.findings with input as object.union(object.remove(empty, ["target"]), programs) with data.waymark.settings as everything
	count(got) == 3
	every f in got {
		f.rule == "protected-program"
	}
}

test_copies_are_no_programs if {
	copy := object.union(block("resource", "terraform_data", ""), {"provisioners": [{"type": "file", "line": 12}]})
	has(judged(object.union({"resources": [copy]}, protected), everything), "runs-program", `"file"`)
}

backend(type, module) := {"module": module, "file": "main.tf", "line": 2, "type": type}

test_backend_in_code_denied if {
	has(judged({"backends": [backend("local", ".")]}, everything), "backend-in-code", `the backend "local"`)
	has(judged({"backends": [backend("cloud", ".")]}, everything), "backend-in-code", "a cloud workspace")
}

test_backend_as_configured_allowed if {
	count(judged({"backends": [backend("s3", ".")]}, everything)) == 0
	count(judged({"backends": [backend("local", "modules/x")]}, everything)) == 0
}

test_link_outside_denied if {
	got := judged({"outside_links": [{"file": "a/link", "leads": "/etc", "reason": "it leads to an absolute path"}]}, everything)
	count(got) == 1
	some f in got
	[f.rule, f.file] == ["symlink-outside", "a/link"]
}

test_nothing_is_said_of_plain_code if {
	count(judged({"resources": [block("resource", "external", "hashicorp/external"), block("data", "aws_vpc", "hashicorp/aws")]}, everything)) == 0
	count(judged({}, hashicorp_only)) == 0
}
