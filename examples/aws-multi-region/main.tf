# One copy of the code for every environment, team and Region. A deployment
# touches one of the two modules: module.global for tags such as
# dev_global/research/1.0, module.regional for dev_us-east-1/research/1.0.
# Neither takes anything from the other, so that each can be deployed alone.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }

  # Whoever runs init says where the state lives: a bucket and a lock table for
  # each environment, a key for each team and scope.
  backend "s3" {}
}

# The session that init and plan start with belongs to the tooling account and
# can read the state. The provider crosses into the account of the team with it.
provider "aws" {
  region = var.region

  assume_role {
    role_arn     = "arn:aws:iam::${var.account}:role/${var.build_role}"
    session_name = "infra-${var.env}-${var.team}"
  }

  default_tags {
    tags = {
      Environment = var.env
      Team        = var.team
      ManagedBy   = "infra"
    }
  }
}

module "global" {
  source = "./modules/global"

  env  = var.env
  team = var.team
}

module "regional" {
  source = "./modules/regional"

  env                = var.env
  team               = var.team
  region             = var.region
  vpc_cidr           = var.vpc_cidr
  availability_zones = var.availability_zones
}
