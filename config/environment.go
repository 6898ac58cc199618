package config

import "slices"

func environmentBlock() block {
	return block{
		name: "environment", label: "name", many: true, required: true, checkLabel: checkName,
		in: within(func(c *Config, name string) any {
			return added(&c.Environments, Environment{Name: name})
		}),
		about: "What the tags of one environment may do. There is one block per environment.",
		fields: slices.Concat([]field{
			{name: "regions", required: true, at: of(func(e *Environment) any { return &e.Regions }), check: checkRegion,
				example: `["us-east-1", "eu-central-1"]`,
				meaning: "Regions that tags may name. The scope `global` is allowed wherever `global_region` is set."},
			{name: "downgrade", at: of(func(e *Environment) any { return &e.Downgrade }), fallback: `"refuse"`,
				oneOf: []string{"refuse", "allow"}, example: `"allow"`,
				meaning: "Whether a tag with an older version than the one deployed deploys."},
			{name: "queue", at: of(func(e *Environment) any { return &e.Queue }), fallback: `"all"`,
				oneOf: []string{"all", "supersede"}, example: `"supersede"`,
				meaning: "`all`: every tag runs, in order. `supersede`: a run that still waits ends as superseded when a later tag of its target arrives."},
			{name: "unknown", at: of(func(e *Environment) any { return &e.Unknown }), fallback: `"ask"`,
				oneOf: []string{"ask", "replan"}, example: `"replan"`,
				meaning: "What becomes of a run whose apply ended unseen. `ask`: a person decides, with `waymark runs resolve`. `replan`: it ends as failed and its release gets a fresh run, as `resolve --replan` does it."},
			{name: "accounts", at: of(func(e *Environment) any { return &e.Accounts }), check: checkAccount, unset: "any account",
				example: `["111122223333"]`,
				meaning: "Accounts that targets of this environment may be in, whatever the repository says. Checked against `stack.account` and against the accounts of the plan and apply roles."},
			{name: "require_signature", at: of(func(e *Environment) any { return &e.RequireSignature }), fallback: "false", example: "true",
				meaning: "Whether a tag must be signed by one of the `signers`."},
			{name: "signers", at: of(func(e *Environment) any { return &e.Signers }), unset: "all signers", example: `["release"]`,
				meaning: "Names of the `signers` blocks whose keys count here."},
			{name: "public", at: of(func(e *Environment) any { return &e.Public }), fallback: "false", example: "true",
				meaning: "Whether anybody may look at its runs, with their logs as they are kept, at `/public/runs/ID`, and at the badges of its targets, without a login. No page shows who asked or approved. Log lines are masked, and still tell what the code is made of."},
		}, promotionFields(), approvalFields(), orderFields(), gateFields(), protectionFields()),
		blocks: []block{windowBlock(), freezeBlock()},
	}
}
