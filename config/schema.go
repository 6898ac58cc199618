package config

import (
	"slices"
	"time"
)

// block describes one kind of block: this table decodes it, fills in its
// defaults, finds what does not belong there, and prints the reference.
type block struct {
	name     string
	label    string // what the label names; empty for a block without one
	labels   []string
	many     bool
	required bool
	open     bool // takes any attribute, as a template
	about    string
	note     string // further text for the reference, after the table
	fields   []field
	blocks   []block
	// in returns the Go value that the block fills, inside its parent's.
	in func(parent any, label string) any
	// checkLabel says what is wrong with the label and what to write; "" if fine.
	checkLabel func(string) (summary, detail string)
}

// field describes one attribute. Its type is the type of the Go value it fills.
type field struct {
	name     string
	at       func(owner any) any // pointer to the Go value
	required bool
	fallback string // default, as HCL; empty: the zero value
	unset    string // what an absent value means, where there is no default
	example  string // as HCL
	meaning  string
	oneOf    []string
	file     bool          // a path, read from the configuration file's folder
	program  bool          // a path, or a bare name to look up on PATH
	least    time.Duration // of a duration
	min, max int           // of a number
	yields   shape         // of a template
	// check says what is wrong with a string, or with each string of a list,
	// and what to write; "" if fine. It must not repeat a secret.
	check func(string) (summary, detail string)
}

// shape is what a template evaluates to.
type shape string

const (
	yieldsString shape = "string"
	yieldsList   shape = "list of strings"
	yieldsObject shape = "map of values"
)

// of makes a field's accessor from a typed one.
func of[T any](at func(*T) any) func(any) any {
	return func(owner any) any { return at(owner.(*T)) }
}

// within makes a block's accessor from a typed one.
func within[T any](in func(parent *T, label string) any) func(any, string) any {
	return func(parent any, label string) any { return in(parent.(*T), label) }
}

// added appends a value to a list and returns a pointer to it.
func added[T any](list *[]T, value T) any {
	*list = append(*list, value)
	return &(*list)[len(*list)-1]
}

// schema is the whole configuration file.
func schema() block {
	return block{
		fields: []field{
			{name: "teams", required: true, at: of(func(c *Config) any { return &c.Teams }),
				check: checkName, example: `["research", "risk"]`,
				meaning: "The teams that may deploy. Each is the part of a tag after the first slash."},
			{name: "global_region", at: of(func(c *Config) any { return &c.GlobalRegion }),
				check: checkRegion, unset: "no global targets", example: `"us-east-1"`,
				meaning: "The Region from which global resources are deployed. It is `region` in the templates of global targets. Without it, tags with the scope `global` are refused."},
		},
		blocks: []block{serverBlock(), repositoryBlock(), engineBlock(), backendBlock(), stackBlock(),
			environmentBlock(), awsBlock(), credentialsBlock(), triggerBlock(), gateBlock(), waiverBlock(), policyBlock(), runnerBlock(),
			poolBlock(), blobsBlock(), retentionBlock(), signersBlock(), accessBlock(), oidcBlock(), auditBlock(), consumerBlock(), notificationBlock(), telemetryBlock()},
	}
}

func serverBlock() block {
	return block{
		name:  "server",
		in:    within(func(c *Config, _ string) any { return &c.Server }),
		about: "Where the service listens and keeps its data.",
		fields: slices.Concat([]field{
			{name: "listen", at: of(func(s *Server) any { return &s.Listen }), check: checkListen,
				fallback: `"127.0.0.1:8080"`, example: `"0.0.0.0:8080"`,
				meaning: "Address and port of the API and the page. Any address beyond loopback needs `token` or an `oidc` block."},
			{name: "data_dir", at: of(func(s *Server) any { return &s.DataDir }), file: true,
				fallback: `"waymark-data"`, example: `"/var/lib/waymark"`,
				meaning: "Folder for the database, working copies, logs and embedded states. One service at a time."},
			{name: "database", at: of(func(s *Server) any { return &s.Database }), check: checkDatabase,
				fallback: `"sqlite"`, example: `env("DATABASE_URL", "sqlite")`,
				meaning: "`sqlite` for a file in `data_dir`, or the URL of a Postgres database, `postgres://user:password@host/name`."},
			{name: "token", at: of(func(s *Server) any { return &s.Token }), unset: "no token", example: `env("WAYMARK_TOKEN")`,
				meaning: "A bearer token whose holder may do everything, and is nobody in particular. Required when `listen` is not loopback and there is no `oidc` block."},
			{name: "max_runs", at: of(func(s *Server) any { return &s.MaxRuns }), fallback: "8", min: 1, max: 1000,
				example: "16", meaning: "How many runs may go on side by side. Runs for one target never do."},
			{name: "shutdown_grace", at: of(func(s *Server) any { return &s.ShutdownGrace }), fallback: `"30s"`,
				example: `"2m"`, meaning: "How long a stopping service waits for its runs. What still runs then goes on by itself and is found again at the next start."},
			{name: "heartbeat", at: of(func(s *Server) any { return &s.Heartbeat }), fallback: `"30s"`, least: 2 * time.Second,
				example: `"10s"`, meaning: "An instance without a sign of life for so long is declared dead, and others take over its runs. It gives one every sixth of this time. The same for all that share a database; at least `\"2s\"`."},
			{name: "debug_listen", at: of(func(s *Server) any { return &s.DebugListen }), check: checkDebugListen, unset: "no profiles",
				example: `"127.0.0.1:6060"`, meaning: "Loopback address and port of Go's profiles (`/debug/pprof/`), which have no login. See [Profiles](operations.md#profiles)."},
		}, serverIdentityFields()),
	}
}

func repositoryBlock() block {
	return block{
		name: "repository", label: "name", many: true, required: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Repositories, Repository{Name: name})
		}),
		about: "A git repository whose tags are watched. There is one block per repository. The name appears in the API and in the path of embedded states.",
		fields: []field{
			{name: "url", required: true, at: of(func(r *Repository) any { return &r.URL }), check: checkURL,
				example: `"ssh://git@git.example.org/infra.git"`,
				meaning: "Where the repository is: `https://`, `http://`, `ssh://`, `git@host:path`, `file://` or a local folder. It holds no password; see `password`."},
			{name: "branch", at: of(func(r *Repository) any { return &r.Branch }), check: checkBranch,
				fallback: `"main"`, example: `"main"`,
				meaning: "Branch from which a tag's commit must be reachable."},
			{name: "poll", at: of(func(r *Repository) any { return &r.Poll }), fallback: `"30s"`, least: 10 * time.Millisecond,
				example: `"1m"`, meaning: "How often the remote is asked for its tags."},
			{name: "first_contact", at: of(func(r *Repository) any { return &r.FirstContact }), fallback: `"adopt"`,
				oneOf: []string{"adopt", "deploy"}, example: `"deploy"`,
				meaning: "What becomes of tags that are there when the repository is first seen: `adopt` records them and runs nothing, `deploy` runs them."},
			{name: "lightweight_tags", at: of(func(r *Repository) any { return &r.LightweightTags }), fallback: `"refuse"`,
				oneOf: []string{"refuse", "allow"}, example: `"allow"`,
				meaning: "Whether a tag without tagger and message (made without `git tag -a`) deploys."},
			{name: "ssh_key", at: of(func(r *Repository) any { return &r.SSHKey }), file: true, unset: "no key",
				example: `"/etc/waymark/id_ed25519"`, meaning: "Private key file, for SSH URLs."},
			{name: "known_hosts", at: of(func(r *Repository) any { return &r.KnownHosts }), file: true, unset: "the user's own",
				example: `"/etc/waymark/known_hosts"`, meaning: "File with the host keys that are trusted, for SSH URLs."},
			{name: "username", at: of(func(r *Repository) any { return &r.Username }), unset: "none",
				example: `"waymark"`, meaning: "User name, for HTTP URLs."},
			{name: "password", at: of(func(r *Repository) any { return &r.Password }), unset: "none",
				example: `env("GIT_PASSWORD")`, meaning: "Password or access token, for HTTP URLs."},
			{name: "ca_file", at: of(func(r *Repository) any { return &r.CAFile }), file: true, unset: "the system's own",
				example: `"/etc/waymark/ca.pem"`, meaning: "Certificates that are trusted for HTTPS URLs, as PEM."},
			{name: "codecommit", at: of(func(r *Repository) any { return &r.CodeCommit }), check: checkRegion,
				unset: "the Region in the URL of a CodeCommit repository, otherwise none", example: `"us-east-1"`,
				meaning: "Region of a CodeCommit repository. Its passwords are made from the service's own AWS identity, which needs `codecommit:GitPull`."},
		},
		blocks: []block{{
			name:  "webhook",
			in:    within(func(r *Repository, _ string) any { return &r.Webhook }),
			about: "Accept the forge's push webhook at `/webhooks/<name>`. A webhook is only a hint to look at the remote at once.",
			fields: []field{{name: "secret", required: true, at: of(func(w *Webhook) any { return &w.Secret }), check: checkNotEmpty,
				example: `env("WAYMARK_WEBHOOK_SECRET")`,
				meaning: "What the forge proves that a message is its own with: its secret, or a signing token of GitLab. See [Webhooks](webhooks.md)."}},
		}, forgeBlock()},
	}
}

func engineBlock() block {
	return block{
		name:  "engine",
		in:    within(func(c *Config, _ string) any { return &c.Engine }),
		about: "The program that plans and applies.",
		fields: []field{
			{name: "kind", at: of(func(e *Engine) any { return &e.Kind }), fallback: `"tofu"`,
				oneOf: []string{"tofu", "terraform"}, example: `"terraform"`, meaning: "OpenTofu or Terraform."},
			{name: "path", at: of(func(e *Engine) any { return &e.Path }), program: true, unset: "`kind`, looked up on PATH",
				example: `"/usr/local/bin/tofu"`, meaning: "The executable."},
			{name: "version", at: of(func(e *Engine) any { return &e.Version }), check: checkConstraint, unset: "any",
				example: `">= 1.10, < 2.0"`, meaning: "Version that the executable must have, exact or as a constraint."},
			{name: "plugin_dir", at: of(func(e *Engine) any { return &e.PluginDir }), file: true, unset: "the registry",
				example: `"/usr/share/waymark/providers"`, meaning: "Folder with a filesystem mirror of providers. Nothing is then downloaded from a registry."},
			{name: "env", at: of(func(e *Engine) any { return &e.Env }), unset: "nothing",
				example: `{ HTTPS_PROXY = "http://proxy:3128" }`,
				meaning: "Variables added to the environment of engine and providers, which otherwise hold only the run's credentials. Gates never get them."},
			{name: "timeout", at: of(func(e *Engine) any { return &e.Timeout }), fallback: `"2h"`, example: `"45m"`,
				meaning: "The longest that the plan half of a run may take, and the apply half. It is then stopped gracefully. `\"0s\"` for no limit."},
		},
	}
}

func backendBlock() block {
	return block{
		name: "backend", label: "type", open: true, checkLabel: checkBackendType,
		in: within(func(c *Config, kind string) any {
			c.Backend.Type = kind
			return &c.Backend
		}),
		about: "Where states live: any Terraform backend type, with its own arguments. The values are templates of the target; a list or map is handed on as JSON.\n\n" +
			"Without this block states are files, `<data_dir>/state/<repository>/<team>/<env>-<scope>/terraform.tfstate`. " +
			"With `backend \"local\"`, `path` is read from `data_dir` and must stay in it; each target's state needs a folder of its own, to which its runs may write.",
		note: "Two targets never share a state. When the file is read, the arguments are evaluated for every target of every repository, and " +
			"two that could end in the same place are a problem. A part that only the repository's commit decides, such as `account`, " +
			"does not count as a difference. `version`, `tag` and `commit` cannot be used: a state outlives them.\n\n" +
			"Example: `key = \"${team}/${env}-${scope}/terraform.tfstate\"`",
	}
}

func stackBlock() block {
	return block{
		name:  "stack",
		in:    within(func(c *Config, _ string) any { return &c.Stack }),
		about: "How a target maps onto the repository's code. The values are templates of the target; paths are read from the root of the repository and stay in it.",
		fields: []field{
			{name: "path", at: of(func(s *Stack) any { return &s.Path }), yields: yieldsString, fallback: `"."`,
				example: `"stacks/${team}"`, meaning: "Folder of the root module."},
			{name: "var_files", at: of(func(s *Stack) any { return &s.VarFiles }), yields: yieldsList, unset: "none",
				example: `["${env}.tfvars", optional("${region}.tfvars")]`,
				meaning: "Variable files, later ones win. One that the commit lacks is an error unless it is `optional()`."},
			{name: "variables", at: of(func(s *Stack) any { return &s.Variables }), yields: yieldsObject, unset: "none",
				example: `{ env = env, region = region }`, meaning: "Variables that win over the files."},
			{name: "module", at: of(func(s *Stack) any { return &s.Module }), yields: yieldsString, unset: "everything",
				example: `scope == "global" ? "module.global" : "module.regional"`,
				meaning: "Address to which plan and apply are limited (`-target`). `null` or `\"\"` for everything."},
			{name: "account", at: of(func(s *Stack) any { return &s.Account }), yields: yieldsString, unset: "no account",
				example: `tfvar("environments/${env}/${team}/variables.tfvars", "account")`,
				meaning: "The AWS account of the target: 12 digits. It is `account` in the templates of `backend`, of `credentials` and of the other attributes here."},
		},
	}
}

func runnerBlock() block {
	return block{
		name:  "runner",
		in:    within(func(c *Config, _ string) any { return &c.Runner }),
		about: "What the processes of a run may touch, and what is kept of them.",
		fields: []field{
			{name: "writable", at: of(func(r *Runner) any { return &r.Writable }), file: true, unset: "nothing more",
				example: `["/var/cache/builds"]`, meaning: "Folders that engine and providers may write to, beyond the working copy."},
			{name: "readable", at: of(func(r *Runner) any { return &r.Readable }), file: true, unset: "nothing more",
				example: `["/srv/artefacts"]`, meaning: "Folders that they may read, beyond the working copy and the system's own."},
			{name: "sandbox", at: of(func(r *Runner) any { return &r.Sandbox }), fallback: `"auto"`,
				oneOf: []string{"auto", "require", "off"}, example: `"require"`,
				meaning: "`auto` confines the tools where the kernel can, `require` refuses to run where it cannot, `off` does not."},
			{name: "mask", at: of(func(r *Runner) any { return &r.Mask }), check: checkMask, unset: "nothing more",
				example: `["corp-[0-9a-f]{32}"]`, meaning: "Patterns (RE2) of what must not be shown in logs, plans, findings and reasons, beyond what is sensitive to the engine, the run's credentials, and what looks like a key or a token."},
			{name: "keep", at: of(func(r *Runner) any { return &r.Keep }), fallback: "false", example: "true",
				meaning: "Keep the working copies of ended runs, to look into."},
		},
	}
}
