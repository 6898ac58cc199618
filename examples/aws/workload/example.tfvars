account         = "111111111111"
tooling_account = "999900001111"
env             = "dev"
teams           = ["research"]
regions         = ["us-east-1", "eu-central-1", "ap-southeast-1"]
