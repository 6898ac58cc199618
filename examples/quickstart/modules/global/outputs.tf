output "role_arn" {
  description = "Role of the team's workloads."
  value       = terraform_data.role.output.arn
}
