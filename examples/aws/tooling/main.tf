# The tooling account: the service's role, the run role, and the queue that
# tells of tags. Everything that decides who may do what is in
# ../modules/tooling-policies.

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
  region              = var.region
  allowed_account_ids = [var.account]
}

module "policies" {
  source = "../modules/tooling-policies"

  account        = var.account
  region         = var.region
  environments   = var.environments
  workload_roles = var.workload_roles
  external_id    = var.external_id
  state_buckets  = ["${var.state_prefix}-{env}"]
  lock_tables    = var.lock == "s3" ? [] : ["${var.state_prefix}-lock-{env}"]
  lockfile       = var.lock != "dynamodb"
  kms_key_arn    = var.kms_key_arn
  repositories   = var.repositories
}

# The service's own identity, here for an EC2 instance.
resource "aws_iam_role" "service" {
  name        = "Waymark"
  description = "The Waymark service. It reaches no workload account by itself."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = var.service_principal }
    }]
  })
}

resource "aws_iam_role_policy" "service" {
  name   = "waymark-service"
  role   = aws_iam_role.service.id
  policy = module.policies.service_policy
}

resource "aws_iam_instance_profile" "service" {
  name = aws_iam_role.service.name
  role = aws_iam_role.service.name
}

# A session of this role is all that a run gets. It lasts an hour at most, because
# the service has a role itself, and is renewed while an apply goes on. The trust
# policy names the service's role, which must exist before.
resource "aws_iam_role" "run" {
  name               = "WaymarkRun"
  description        = "One session for each phase of each run."
  assume_role_policy = module.policies.run_trust_policy

  depends_on = [aws_iam_role.service]
}

resource "aws_iam_role_policy" "run" {
  name   = "waymark-run"
  role   = aws_iam_role.run.id
  policy = module.policies.run_policy
}

# For the people who set up the storage of states; attach it to their role.
resource "aws_iam_policy" "operator" {
  name        = "WaymarkOperator"
  description = "waymark backend bootstrap and verify."
  policy      = module.policies.operator_policy
}
