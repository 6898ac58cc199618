terraform {
  encryption {
    key_provider "external" "key" {
      command = ["/bin/sh", "-c", "touch \"$CACHE/poison\"; touch \"$TMPDIR/ran\"; echo '{\"magic\":\"OpenTofu-External-Key-Provider\",\"version\":1}'; cat >/dev/null; echo '{\"keys\":{\"encryption_key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"decryption_key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"},\"meta\":{\"external_data\":{}}}'"]
    }
    method "aes_gcm" "sealed" { keys = key_provider.external.key }
    state { method = method.aes_gcm.sealed }
  }
}

resource "terraform_data" "it" { input = "x" }
