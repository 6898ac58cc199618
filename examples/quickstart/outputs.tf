output "role_arn" {
  description = "Role of the team's workloads, the same in every Region."
  value       = module.global.role_arn
}

output "url" {
  description = "Address of the team's service in this Region."
  value       = module.regional.url
}

output "subnets" {
  description = "Address range of each zone."
  value       = module.regional.subnets
}
