# The policies of the tooling account, as documents alone: this module needs no
# provider, so it can be validated, rendered and read anywhere.
#
# A run's session carries the tags env, scope, team, run and tag. The run role's
# policy is written with them, so that even without the session policy, which
# the service adds to each session, a run reaches no state but its own.

terraform {
  required_version = ">= 1.5"
}

locals {
  arn              = "arn:${var.partition}"
  service_role_arn = "${local.arn}:iam::${var.account}:role/${var.service_role}"
  run_role_arn     = "${local.arn}:iam::${var.account}:role/${var.run_role}"
  queue_arn        = "${local.arn}:sqs:${var.region}:${var.account}:${var.queue}"
  rule_arn         = "${local.arn}:events:${var.region}:${var.account}:rule/${var.queue}"
  repository_arns  = [for name in var.repositories : "${local.arn}:codecommit:${var.region}:${var.account}:${name}"]

  # The tags that a session may have, and no others.
  tags = ["env", "scope", "team", "run", "tag"]

  # What {env} becomes in a run's policy: the tag of its session.
  of_run = {
    "{env}"   = "$${aws:PrincipalTag/env}"
    "{scope}" = "$${aws:PrincipalTag/scope}"
    "{team}"  = "$${aws:PrincipalTag/team}"
  }
  run_key     = replace(replace(replace(var.state_key, "{env}", local.of_run["{env}"]), "{scope}", local.of_run["{scope}"]), "{team}", local.of_run["{team}"])
  run_buckets = [for b in var.state_buckets : replace(replace(replace(b, "{env}", local.of_run["{env}"]), "{scope}", local.of_run["{scope}"]), "{team}", local.of_run["{team}"])]
  run_tables  = [for t in var.lock_tables : replace(replace(replace(t, "{env}", local.of_run["{env}"]), "{scope}", local.of_run["{scope}"]), "{team}", local.of_run["{team}"])]
}
