variable "account" {
  description = "The workload account, 12 digits."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "An account is 12 digits."
  }
}

variable "tooling_account" {
  description = "The tooling account, 12 digits."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.tooling_account))
    error_message = "An account is 12 digits."
  }
}

variable "partition" {
  description = "Partition: aws, aws-cn or aws-us-gov."
  type        = string
  default     = "aws"
}

variable "run_role" {
  description = "Name of the run role in the tooling account."
  type        = string
  default     = "WaymarkRun"
}

variable "env" {
  description = "Environment whose runs may come here."
  type        = string
}

variable "teams" {
  description = "Teams whose runs may come here."
  type        = list(string)

  validation {
    condition     = length(var.teams) > 0
    error_message = "Name at least one team."
  }
}

variable "regions" {
  description = "Regions that runs deploy to, the one for global resources included."
  type        = list(string)
}
