output "trust_policy" {
  description = "Who may assume the roles of this account."
  value       = jsonencode(local.trust)
}

output "build_policy" {
  description = "What InfraBuildRole may do, for examples/aws-multi-region."
  value       = jsonencode(local.build)
}
