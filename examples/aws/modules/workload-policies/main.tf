# The policies of a workload account, as documents alone: this module needs no
# provider, so it can be validated, rendered and read anywhere.

terraform {
  required_version = ">= 1.5"
}

locals {
  arn          = "arn:${var.partition}"
  run_role_arn = "${local.arn}:iam::${var.tooling_account}:role/${var.run_role}"

  # The session that comes carries the tags of its run: one of another
  # environment or team is refused here, whatever the tooling account says.
  of_this_account = {
    StringEquals = {
      "aws:PrincipalTag/env"  = var.env
      "aws:PrincipalTag/team" = var.teams
    }
    StringLike = { "aws:SourceIdentity" = "waymark-run-*" }
  }

  # For the role that builds, and for one that only plans.
  trust = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "RunsOfThisAccount"
        Effect    = "Allow"
        Principal = { AWS = local.run_role_arn }
        # The source identity stays with every further session: without the
        # last one the first is refused too.
        Action    = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
        Condition = local.of_this_account
      },
    ]
  }
}
