output "url" {
  description = "Address that answers with the name of the Region."
  value       = "http://${aws_lb.web.dns_name}"
}
