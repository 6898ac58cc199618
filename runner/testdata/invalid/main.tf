resource "terraform_data" "one" {
  input = var.missing
}
