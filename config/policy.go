package config

func policyBlock() block {
	return block{
		name:  "policy",
		in:    within(func(c *Config, _ string) any { return &c.Policy }),
		about: "What the code may use, judged from the files before anything is executed.",
		fields: []field{
			{name: "allowed_providers", at: of(func(p *Policy) any { return &p.AllowedProviders }), check: checkPattern, unset: "all",
				example: `["hashicorp/*"]`, meaning: "Patterns of provider sources."},
			{name: "allowed_modules", at: of(func(p *Policy) any { return &p.AllowedModules }), check: checkPattern, unset: "all",
				example: `["terraform-aws-modules/*/aws"]`, meaning: "Patterns of module sources. Paths inside the repository are always allowed."},
		},
	}
}
