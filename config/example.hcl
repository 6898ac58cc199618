# waymark.hcl: a tag such as dev_us-east-1/research/1.0 deploys the team
# research to us-east-1 in the environment dev.

server {
  listen   = "127.0.0.1:8080"
  data_dir = "/var/lib/waymark"
  database = env("DATABASE_URL", "sqlite")
}

repository "infra" {
  url     = "ssh://git@git.example.org/infra.git"
  branch  = "main"
  poll    = "30s"
  ssh_key = "/etc/waymark/id_ed25519"

  webhook {
    secret = env("WAYMARK_WEBHOOK_SECRET")
  }
}

engine {
  kind    = "tofu"
  version = ">= 1.10"
}

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

global_region = "us-east-1"
teams         = ["research", "risk"]

environment "dev" {
  regions = ["us-east-1", "eu-central-1", "ap-southeast-1"]
}

environment "staging" {
  regions       = ["us-east-1", "eu-central-1"]
  promotes_from = "dev"
}

environment "prod" {
  regions       = ["us-east-1", "eu-central-1"]
  promotes_from = "staging"
  approvals     = 1
  accounts      = ["111122223333", "444455556666"]
}

credentials {
  run_role   = "arn:aws:iam::999900001111:role/WaymarkRun"
  plan_role  = "arn:aws:iam::${account}:role/WaymarkPlan"
  apply_role = "arn:aws:iam::${account}:role/InfraBuildRole"
}

gate "tflint" {}

gate "checkov" {
  fail_on    = "error"
  skip_check = ["CKV_AWS_144"]
}

policy {
  allowed_providers = ["hashicorp/*"]
}

runner {
  sandbox = "require"
}
