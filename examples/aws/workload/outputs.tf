output "build_role" {
  description = "Role that builds."
  value       = aws_iam_role.build.arn
}

output "plan_role" {
  description = "Role that only plans; null where there is none."
  value       = one(aws_iam_role.plan[*].arn)
}
