variable "name" {
  type    = string
  default = "none"
}

variable "size" {
  type    = number
  default = 0
}

resource "terraform_data" "one" {
  input = "${var.name}-${var.size}"
}

output "one" {
  value = terraform_data.one.output
}

output "hidden" {
  value     = "do not tell"
  sensitive = true
}
