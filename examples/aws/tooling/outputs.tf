output "run_role" {
  description = "For credentials { run_role }."
  value       = aws_iam_role.run.arn
}

output "queue_url" {
  description = "For trigger \"sqs\" { queue_url }; null where there is no CodeCommit repository."
  value       = one(aws_sqs_queue.tags[*].url)
}

output "operator_policy_arn" {
  description = "To attach to the people who run waymark backend bootstrap."
  value       = aws_iam_policy.operator.arn
}

output "instance_profile" {
  description = "For the machine that the service runs on."
  value       = aws_iam_instance_profile.service.name
}
