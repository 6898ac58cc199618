variable "env" {
  description = "Environment."
  type        = string
}

variable "team" {
  description = "Team."
  type        = string
}
