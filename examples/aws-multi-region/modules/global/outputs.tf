output "role_arn" {
  description = "Role of the team's workloads."
  value       = aws_iam_role.workload.arn
}
