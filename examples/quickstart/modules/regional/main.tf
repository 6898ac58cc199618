# What exists in each Region: a network with one subnet per zone, and a load
# balancer in front of the team's service.

terraform {
  required_version = ">= 1.5"
}

locals {
  name    = "${var.team}-${var.env}-${var.region}"
  subnets = { for i, zone in var.availability_zones : "${var.region}${zone}" => cidrsubnet(var.vpc_cidr, 8, i) }
}

resource "terraform_data" "network" {
  input = {
    name    = local.name
    account = var.account
    cidr    = var.vpc_cidr
  }
}

resource "terraform_data" "subnet" {
  for_each = local.subnets

  input = {
    network = terraform_data.network.output.name
    zone    = each.key
    cidr    = each.value
  }
}

resource "terraform_data" "load_balancer" {
  input = {
    name    = local.name
    message = "Hello from ${var.region}"
    subnets = [for s in terraform_data.subnet : s.output.cidr]
    url     = "https://${var.team}.${var.region}.${var.env}.example.org"
  }
}
