# One copy of the code for every environment, team and Region. A deployment
# touches one of the two modules: module.global for tags such as
# dev_global/research/1.0, module.regional for dev_us-east-1/research/1.0.

terraform {
  required_version = ">= 1.5"
}

module "global" {
  source = "./modules/global"

  env     = var.env
  team    = var.team
  account = var.account
}

module "regional" {
  source = "./modules/regional"

  env                = var.env
  team               = var.team
  account            = var.account
  region             = var.region
  vpc_cidr           = var.vpc_cidr
  availability_zones = var.availability_zones
}
