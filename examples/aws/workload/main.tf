# A workload account: the role that builds, and where it is wanted one that only
# plans. Apply it once in each account, for instance as part of its creation.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

provider "aws" {
  region              = var.regions[0]
  allowed_account_ids = [var.account]
}

module "policies" {
  source = "../modules/workload-policies"

  account         = var.account
  tooling_account = var.tooling_account
  env             = var.env
  teams           = var.teams
  regions         = var.regions
}

# What the code's provider assumes by itself, or what apply_role names.
resource "aws_iam_role" "build" {
  name               = "InfraBuildRole"
  description        = "Builds what the infrastructure repository says."
  assume_role_policy = module.policies.trust_policy
}

resource "aws_iam_role_policy" "build" {
  name   = "build"
  role   = aws_iam_role.build.id
  policy = coalesce(var.build_policy, module.policies.build_policy)
}

# What plan_role names, for code whose provider assumes no role by itself.
resource "aws_iam_role" "plan" {
  count = var.plan_role ? 1 : 0

  name               = "WaymarkPlan"
  description        = "Reads what there is, for a plan."
  assume_role_policy = module.policies.trust_policy
}

# It reads everything, data in buckets and tables too. Name narrower policies
# where that is too much.
resource "aws_iam_role_policy_attachment" "plan" {
  for_each = var.plan_role ? toset(var.plan_policy_arns) : toset([])

  role       = aws_iam_role.plan[0].name
  policy_arn = each.value
}
