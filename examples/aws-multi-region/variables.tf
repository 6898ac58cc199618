variable "env" {
  description = "Environment, such as dev. Set by the tag."
  type        = string
}

variable "region" {
  description = "AWS Region of the deployment. Set by the tag; for global resources, the Region that they are deployed from."
  type        = string
}

variable "team" {
  description = "Team that owns the resources."
  type        = string
}

variable "account" {
  description = "AWS account of the team in this environment, 12 digits."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "An account is 12 digits."
  }
}

variable "build_role" {
  description = "Role in that account which may create the resources."
  type        = string
  default     = "InfraBuildRole"
}

variable "vpc_cidr" {
  description = "Address range of the Region's network."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 8, 0))
    error_message = "Write a range such as 10.0.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones of the Region to use, by their letter. A load balancer needs two."
  type        = list(string)
  default     = ["a", "b"]

  validation {
    condition     = length(var.availability_zones) >= 2
    error_message = "A load balancer needs two zones or more."
  }
}
