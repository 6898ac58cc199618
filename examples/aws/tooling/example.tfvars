account      = "999900001111"
external_id  = "example-waymark"
state_prefix = "example-tf-state"

environments = {
  dev     = ["111111111111", "222222222222"]
  qa      = ["333333333333", "444444444444"]
  staging = ["555555555555", "666666666666"]
  prod    = ["777777777777", "888888888888"]
}
