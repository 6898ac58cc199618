output "role_arn" {
  description = "Role of the team's workloads, the same in every Region."
  value       = module.global.role_arn
}

output "url" {
  description = "Address that answers with the name of the Region."
  value       = module.regional.url
}
