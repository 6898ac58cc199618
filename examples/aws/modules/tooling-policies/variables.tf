variable "account" {
  description = "The tooling account, 12 digits: the service, the run role, the states."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "An account is 12 digits."
  }
}

variable "region" {
  description = "Region of queue, repositories and states."
  type        = string
  default     = "us-east-1"
}

variable "partition" {
  description = "Partition: aws, aws-cn or aws-us-gov."
  type        = string
  default     = "aws"
}

variable "environments" {
  description = "The accounts of each environment, as in the accounts of waymark.hcl."
  type        = map(list(string))

  validation {
    condition     = alltrue([for a in flatten(values(var.environments)) : can(regex("^[0-9]{12}$", a))])
    error_message = "An account is 12 digits."
  }

  validation {
    condition     = length(var.environments) > 0
    error_message = "Name at least one environment."
  }
}

variable "workload_roles" {
  description = "Names of the roles in those accounts that a run may assume."
  type        = list(string)
  default     = ["InfraBuildRole"]
}

variable "service_role" {
  description = "Name of the role that the service runs with."
  type        = string
  default     = "Waymark"
}

variable "run_role" {
  description = "Name of the role that each run gets a session of."
  type        = string
  default     = "WaymarkRun"
}

variable "external_id" {
  description = "External id, as in credentials { external_id } of waymark.hcl."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@:/-]+$", var.external_id)) && length(var.external_id) >= 2 && length(var.external_id) <= 1224
    error_message = "Write 2 to 1224 letters, digits and +=,.@:/-_"
  }
}

variable "state_buckets" {
  description = "Buckets of the states; {env}, {scope} and {team} stand for those of the run."
  type        = list(string)
  default     = ["example-tf-state-{env}"]
}

variable "state_key" {
  description = "Key of a state in its bucket, likewise."
  type        = string
  default     = "{team}/{env}-{scope}/terraform.tfstate"
}

variable "lock_tables" {
  description = "DynamoDB tables of the locks, likewise; empty where lockfiles in the bucket are used alone."
  type        = list(string)
  default     = ["example-tf-state-lock-{env}"]
}

variable "lockfile" {
  description = "Whether locks are kept in the bucket (use_lockfile)."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "Key that the states are encrypted with; empty for S3's own."
  type        = string
  default     = ""
}

variable "repositories" {
  description = "CodeCommit repositories that the service reads; empty for others."
  type        = list(string)
  default     = ["infra"]
}

variable "queue" {
  description = "Name of the queue with the events of tags."
  type        = string
  default     = "waymark-tags"
}
