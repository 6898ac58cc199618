variable "account" {
  description = "The workload account, 12 digits."
  type        = string
}

variable "tooling_account" {
  description = "The tooling account, 12 digits."
  type        = string
}

variable "env" {
  description = "Environment whose runs may come here."
  type        = string
}

variable "teams" {
  description = "Teams whose runs may come here."
  type        = list(string)
}

variable "regions" {
  description = "Regions that runs deploy to, the one for global resources included."
  type        = list(string)
}

variable "build_policy" {
  description = "What InfraBuildRole may do, as JSON; null for what examples/aws-multi-region needs."
  type        = string
  default     = null
}

variable "plan_role" {
  description = "Whether to make WaymarkPlan too."
  type        = bool
  default     = false
}

variable "plan_policy_arns" {
  description = "Policies of WaymarkPlan."
  type        = list(string)
  default     = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
}
