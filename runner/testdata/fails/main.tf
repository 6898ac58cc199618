resource "terraform_data" "good" {}

resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" {
    command = "echo 'cannot make it: Permission denied'; exit 3"
  }
}
