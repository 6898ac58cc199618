variable "write" { type = list(string) }
variable "read" { type = string }

resource "terraform_data" "escapes" {
  provisioner "local-exec" {
    command = <<-EOT
      for f in $WRITE; do
        if (echo x >> "$f") 2>/dev/null; then echo "wrote $f"; else echo "refused $f"; fi
      done
      if cat "$READ" >/dev/null 2>&1; then echo "read $READ"; else echo "refused $READ"; fi
      if kill -0 $PPID && kill -0 "$(cat runner.pid)" 2>/dev/null; then echo "can signal the runner"; else echo "refused to signal"; fi
      echo "$(env | cut -d= -f1 | sort | tr '\n' ' ')"
      echo inside > "$HOME/inside" && echo inside > "$TMPDIR/inside" && echo inside > inside && echo "wrote inside"
      echo "the key is $MY_API_KEY"
    EOT
    environment = {
      WRITE = join(" ", var.write)
      READ  = var.read
    }
  }
}
