# Deploys this repository: a tag such as dev_us-east-1/research/1.0 deploys the
# team research to us-east-1 in the environment dev.

server {
  listen   = env("WAYMARK_LISTEN", "127.0.0.1:8080")
  data_dir = env("WAYMARK_DATA_DIR", "waymark-data")
}

repository "infra" {
  url    = env("WAYMARK_DEMO_REMOTE", "https://git.example.org/infra.git") # write your own here
  branch = "main"                                                          # tags must be reachable from it
  poll   = "2s"
}

# There is no backend block: each target's state is a file of its own below
# data_dir. backend "s3" { … } keeps them in a bucket.

stack {
  path = "."
  var_files = [
    "environments/${env}/${team}/variables.tfvars",
    optional("environments/${env}/${team}/${region}.tfvars"),
  ]
  variables = { env = env, region = region }
  module    = scope == "global" ? "module.global" : "module.regional"
  account   = tfvar("environments/${env}/${team}/variables.tfvars", "account")
}

global_region = "us-east-1" # where global resources are deployed from
teams         = ["research", "risk"]

environment "dev" {
  regions = ["us-east-1", "eu-central-1", "ap-southeast-1"]
}

environment "prod" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  promotes_from = "dev" # only versions that dev has deployed
  approvals     = 1     # a person says yes to each plan
}

gate "tflint" {}
