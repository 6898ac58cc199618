variable "env" {
  description = "Environment."
  type        = string
}

variable "team" {
  description = "Team."
  type        = string
}

variable "region" {
  description = "AWS Region."
  type        = string
}

variable "vpc_cidr" {
  description = "Address range of the network."
  type        = string
}

variable "availability_zones" {
  description = "Zones to use, by their letter."
  type        = list(string)
}
