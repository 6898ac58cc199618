# Applying waits on apply.fifo where the tree has one.
resource "terraform_data" "first" {}

resource "terraform_data" "held" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" {
    command = "echo once >> applied; echo holding; test ! -p apply.fifo || read line < apply.fifo"
  }
}
