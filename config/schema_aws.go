package config

func awsBlock() block {
	return block{
		name:  "aws",
		in:    within(func(c *Config, _ string) any { return &c.AWS }),
		about: "How the service and its runs reach AWS. All of it is optional: without the block the SDK's defaults hold, with regional STS endpoints.",
		fields: []field{
			{name: "region", at: of(func(a *AWS) any { return &a.Region }), check: checkRegion, unset: "the SDK's own choice",
				example: `"us-east-1"`, meaning: "Region where nothing else names one: of state in `backend \"s3\"` without `region`, and of STS for targets that have none."},
			{name: "profile", at: of(func(a *AWS) any { return &a.Profile }), check: checkNotEmpty, unset: "the SDK's default chain",
				example: `"waymark"`, meaning: "Profile of the service's own identity. Runs never see it."},
			{name: "endpoints", at: of(func(a *AWS) any { return &a.Endpoints }), oneOf: awsServices(), check: checkEndpoint, unset: "AWS's own",
				example: `{ sts = "https://vpce-1a2b-sts.us-east-1.vpce.amazonaws.com" }`,
				meaning: "Other addresses for services, such as those of a private VPC or an emulator: `sts`, `s3`, `dynamodb`, `kms`, `sqs`. Those of `s3`, `dynamodb` and `sts` are also set in `backend \"s3\"`, unless that block sets `endpoints` itself."},
			{name: "ca_bundle", at: of(func(a *AWS) any { return &a.CABundle }), file: true, unset: "the system's own",
				example: `"/etc/waymark/aws-ca.pem"`, meaning: "Certificates that are trusted for AWS, as PEM; for the service and, as `AWS_CA_BUNDLE`, for its runs."},
			{name: "proxy", at: of(func(a *AWS) any { return &a.Proxy }), check: checkEndpoint, unset: "what `HTTPS_PROXY` of the service says",
				example: `"http://proxy.example.org:3128"`, meaning: "Proxy for AWS; for the service and, as `HTTPS_PROXY`, for its runs."},
		},
	}
}

// awsServices are the services whose address may be set.
func awsServices() []string { return []string{"sts", "s3", "dynamodb", "kms", "sqs"} }

func credentialsBlock() block {
	return block{
		name:  "credentials",
		in:    within(func(c *Config, _ string) any { return &c.Credentials }),
		about: "The AWS roles of a run, as templates of role ARNs. Without this block a run gets no AWS credentials from Waymark.",
		fields: []field{
			{name: "run_role", at: of(func(c *Credentials) any { return &c.RunRole }), yields: yieldsString, unset: "none",
				example: `"arn:aws:iam::111122223333:role/WaymarkRun"`,
				meaning: "Role in the tooling account, assumed for each half of each run with a session policy of its own: the session reaches its own state object, its own lock and the roles of its own account, nothing else."},
			{name: "plan_role", at: of(func(c *Credentials) any { return &c.PlanRole }), yields: yieldsString, unset: "none",
				example: `"arn:aws:iam::${account}:role/WaymarkPlan"`,
				meaning: "Role of the plan, for code whose provider assumes no role by itself. It is assumed by the run's session, which may then assume no other. The backend goes on with the run's session."},
			{name: "apply_role", at: of(func(c *Credentials) any { return &c.ApplyRole }), yields: yieldsString, unset: "none",
				example: `"arn:aws:iam::${account}:role/InfraBuildRole"`, meaning: "Role of the apply, likewise."},
			{name: "external_id", at: of(func(c *Credentials) any { return &c.ExternalID }), yields: yieldsString, unset: "none",
				example: `"waymark-4711"`, meaning: "External id that the trust policy of `run_role` asks for."},
			{name: "source_identity", at: of(func(c *Credentials) any { return &c.SourceIdentity }), fallback: `"run"`,
				oneOf: []string{"run", "none"}, example: `"none"`,
				meaning: "`run` sets the source identity `waymark-run-<id>`, which stays visible through every further role; each role's trust policy must allow `sts:SetSourceIdentity` then. `none` sets none."},
		},
	}
}

func triggerBlock() block {
	return block{
		name: "trigger", label: "kind", labels: []string{"sqs"}, many: true,
		in: within(func(c *Config, kind string) any {
			return added(&c.Triggers, Trigger{Kind: kind})
		}),
		about: "A queue that EventBridge puts the events of CodeCommit repositories into. An event is only a hint to look at the remote at once; without it the service looks at every `poll`.",
		fields: []field{
			{name: "queue_url", required: true, at: of(func(t *Trigger) any { return &t.QueueURL }), check: checkEndpoint,
				example: `"https://sqs.us-east-1.amazonaws.com/111122223333/waymark"`,
				meaning: "The queue. The service's identity needs `sqs:ReceiveMessage`, `sqs:DeleteMessage` and `sqs:ChangeMessageVisibility`."},
			{name: "region", at: of(func(t *Trigger) any { return &t.Region }), check: checkRegion, unset: "that of the URL",
				example: `"us-east-1"`, meaning: "Region of the queue."},
		},
	}
}
