server {
  listen   = "127.0.0.1:8080"
  data_dir = "/var/lib/waymark"
  database = env("DATABASE_URL", "sqlite")     # sqlite, or postgres://…
}

repository "infra" {
  url    = "ssh://git@git.example.org/infra.git"
  branch = "main"                               # tags must be reachable from it
  poll   = "30s"
  webhook { secret = env("WAYMARK_WEBHOOK_SECRET") }
}

engine { kind = "tofu" }                        # tofu | terraform; path, version

backend "s3" {                                  # any terraform backend type; the values are templates of the target
  bucket         = "org-awesome-tf-state-${env}"
  key            = "${team}/${env}-${scope}/terraform.tfstate"
  region         = "us-east-1"
  encrypt        = true
  dynamodb_table = "org-awesome-tf-state-lock-${env}"
}

stack {                                         # how a target maps onto the repository's code
  path      = "."
  var_files = ["environments/${env}/${team}/variables.tfvars", optional("environments/${env}/${team}/${region}.tfvars")]
  variables = { env = env, region = region }
  module    = scope == "global" ? "module.global" : "module.regional"
  account   = tfvar("environments/${env}/${team}/variables.tfvars", "account")
}

global_region = "us-east-1"                     # where global resources are deployed from
teams         = ["research", "risk"]

environment "dev" {
  regions = ["us-east-1", "eu-central-1", "ap-southeast-1"]
}
environment "staging" {
  regions = ["us-east-1", "eu-central-1", "ap-southeast-1"]
}
environment "prod" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  promotes_from = "staging"
  approvals     = 1
}

credentials {
  run_role   = "arn:aws:iam::111122223333:role/WaymarkRun"     # tooling account: a run's session reaches its own state object, lock and account, nothing else
  plan_role  = "arn:aws:iam::${account}:role/WaymarkPlan"      # optional, for code whose provider assumes no role by itself
  apply_role = "arn:aws:iam::${account}:role/InfraBuildRole"
}

gate "tflint"  {}
gate "checkov" { fail_on = "error" }
