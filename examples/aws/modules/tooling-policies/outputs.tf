output "service_policy" {
  description = "Policy of the service's own identity."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.service_run,
      length(var.repositories) > 0 ? local.service_events : [],
      length(var.repositories) > 0 ? local.service_repositories : [],
    )
  })
}

output "operator_policy" {
  description = "Policy of a person who runs waymark backend bootstrap and verify."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.operator_buckets,
      length(var.lock_tables) > 0 ? local.operator_tables : [],
    )
  })
}

output "run_trust_policy" {
  description = "Who may assume the run role."
  value       = jsonencode(local.run_trust)
}

output "run_policy" {
  description = "The most that a run's session may do."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.run_state,
      var.lockfile ? local.run_lockfile : [],
      length(var.lock_tables) > 0 ? local.run_table : [],
      var.kms_key_arn != "" ? local.run_kms : [],
      local.run_accounts,
    )
  })
}

output "queue_policy" {
  description = "Who may put messages into the queue."
  value       = jsonencode(local.queue_policy)
}

output "event_pattern" {
  description = "Which events the rule is for: tags of the repositories."
  value       = jsonencode(local.event_pattern)
}

output "run_role_arn" {
  description = "ARN of the run role, for credentials { run_role }."
  value       = local.run_role_arn
}
