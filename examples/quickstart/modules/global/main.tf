# What exists once per account. terraform_data stands in for real resources
# (here an IAM role), so that the example needs no account and no provider.

terraform {
  required_version = ">= 1.5"
}

locals {
  role_name = "${var.team}-${var.env}-workload"
}

resource "terraform_data" "role" {
  input = {
    name = local.role_name
    arn  = "arn:aws:iam::${var.account}:role/${local.role_name}"
  }
}
