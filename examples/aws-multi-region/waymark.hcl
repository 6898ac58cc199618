# Deploys this repository: a tag such as dev_us-east-1/research/1.0 deploys the
# team research to us-east-1 in the environment dev.
#
# Write your own: the url, the prefix example-tf-state of buckets and tables,
# the tooling account 999900001111, the accounts of the environments.

server {
  listen   = env("WAYMARK_LISTEN", "127.0.0.1:8080")
  data_dir = env("WAYMARK_DATA_DIR", "waymark-data")
}

repository "infra" {
  url    = "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/infra"
  branch = "main" # tags must be reachable from it
  poll   = "1m"   # the queue tells earlier
}

trigger "sqs" {
  queue_url = "https://sqs.us-east-1.amazonaws.com/999900001111/waymark-tags"
}

engine {
  kind    = "tofu"
  version = ">= 1.10"
}

# A bucket and a lock table for each environment, a key for each team and scope.
# In Region eu-central-1: research/dev-eu-central-1/terraform.tfstate.
backend "s3" {
  bucket         = "example-tf-state-${env}"
  key            = "${team}/${env}-${scope}/terraform.tfstate"
  region         = "us-east-1"
  encrypt        = true
  dynamodb_table = "example-tf-state-lock-${env}"
}

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

# The provider of this code assumes InfraBuildRole by itself, so there is
# neither plan_role nor apply_role.
credentials {
  run_role    = "arn:aws:iam::999900001111:role/WaymarkRun"
  external_id = "example-waymark"
}

global_region = "us-east-1" # where global resources are deployed from
teams         = ["research", "risk"]

# The repository says which account a team has. It cannot say one that is not
# listed for the environment.
environment "dev" {
  regions  = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  accounts = ["111111111111", "222222222222"]
}

environment "qa" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  accounts      = ["333333333333", "444444444444"]
  promotes_from = "dev" # only commits that dev has deployed
}

environment "staging" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  accounts      = ["555555555555", "666666666666"]
  promotes_from = "qa"
}

environment "prod" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  accounts      = ["777777777777", "888888888888"]
  promotes_from = "staging"
  approvals     = 1 # a person says yes to each plan
}

gate "tflint" {}

# A page over plain HTTP without a certificate, logs or a firewall is what this
# example is. Take these out for what you build.
gate "checkov" {
  skip_check = [
    "CKV_AWS_2",   # the listener is HTTP
    "CKV_AWS_103", # no TLS
    "CKV2_AWS_20", # no redirect to HTTPS
    "CKV_AWS_260", # port 80 is open to all
    "CKV_AWS_91",  # no access logs
    "CKV_AWS_150", # no deletion protection
    "CKV2_AWS_28", # no WAF
    "CKV2_AWS_11", # no flow logs
  ]
}

policy {
  allowed_providers = ["hashicorp/aws"]
}
