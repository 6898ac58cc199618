# What exists once per account: the role that the team's instances run with.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

resource "aws_iam_role" "workload" {
  name        = "${var.team}-${var.env}-workload"
  description = "What the instances of ${var.team} in ${var.env} run with."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_instance_profile" "workload" {
  name = aws_iam_role.workload.name
  role = aws_iam_role.workload.name
}
