// Package policies judges an infrastructure repository's code before anything
// of it is executed, and the plan that comes of it. ReadConfig turns the files
// into facts, an Engine holds facts against rules written in Rego, and what
// comes out are findings; one of severity error is a denial.
//
// It reads files and nothing else: it must never evaluate a configuration,
// start a process, open a connection or follow a path out of the repository.
// What it cannot read it must not pass.
//
// # Patterns
//
// The lists of allowed providers and modules hold patterns. A pattern matches a
// whole address, segment by segment between slashes. "*" stands for any letters,
// digits and "._~+-" inside one segment, and at least one of them where it is
// the whole segment; a last segment "**" stands for one or more segments. All
// else stands for itself.
//
// Providers are compared in their normal form, in lower case: "time",
// "hashicorp/time", "registry.terraform.io/hashicorp/time" and
// "registry.opentofu.org/hashicorp/time" are one and the same, as address and
// as pattern; a pattern for the host, such as "*/hashicorp/time", means other
// registries than these two. terraform.io/builtin/terraform is part of the engine and always
// allowed.
//
// Modules are compared as their source is written, with scheme and host in
// lower case and without the host of the two public registries. The query (such
// as ?ref=v1.2) counts only where the pattern has one. A "*" as the first
// segment stands for a registry's namespace, not for a host. Paths inside the
// repository are always allowed, paths out of it never.
package policies
