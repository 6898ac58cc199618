variable "account" {
  description = "The tooling account, 12 digits."
  type        = string
}

variable "region" {
  description = "Region of queue, repositories and states."
  type        = string
  default     = "us-east-1"
}

variable "environments" {
  description = "The accounts of each environment, as in the accounts of waymark.hcl."
  type        = map(list(string))
}

variable "workload_roles" {
  description = "Names of the roles in those accounts that a run may assume."
  type        = list(string)
  default     = ["InfraBuildRole"]
}

variable "external_id" {
  description = "External id, as in credentials { external_id } of waymark.hcl."
  type        = string
}

variable "service_principal" {
  description = "Where the service runs: ec2.amazonaws.com or ecs-tasks.amazonaws.com."
  type        = string
  default     = "ec2.amazonaws.com"
}

variable "state_prefix" {
  description = "Prefix of state buckets, and of lock tables with -lock behind it."
  type        = string
}

variable "lock" {
  description = "Where locks are kept: dynamodb, s3, or both while moving from one to the other."
  type        = string
  default     = "dynamodb"

  validation {
    condition     = contains(["dynamodb", "s3", "both"], var.lock)
    error_message = "Write dynamodb, s3 or both."
  }
}

variable "kms_key_arn" {
  description = "Key that the states are encrypted with; empty for S3's own."
  type        = string
  default     = ""
}

variable "create_state" {
  description = "Whether to create buckets and tables here. waymark backend bootstrap does it otherwise."
  type        = bool
  default     = false
}

variable "repositories" {
  description = "CodeCommit repositories that the service reads; empty for others."
  type        = list(string)
  default     = ["infra"]
}
