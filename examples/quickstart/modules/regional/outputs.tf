output "url" {
  description = "Address of the team's service."
  value       = terraform_data.load_balancer.output.url
}

output "subnets" {
  description = "Address range of each zone."
  value       = { for zone, s in terraform_data.subnet : zone => s.output.cidr }
}
