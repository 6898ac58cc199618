# Who may release what to where, after which proof, at which time: on the code of
# examples/quickstart. dev is free, staging takes what dev has deployed, and prod
# takes signed tags of what staging has deployed, in working hours, after
# somebody else has approved the plan.

server {
  listen   = env("WAYMARK_LISTEN", "127.0.0.1:8080")
  data_dir = env("WAYMARK_DATA_DIR", "waymark-data")
  url      = env("WAYMARK_URL", "http://127.0.0.1:8080") # where people reach the page
  token    = env("WAYMARK_ADMIN_TOKEN")                  # for the first day, and for emergencies
}

repository "infra" {
  url    = env("WAYMARK_REMOTE", "https://git.example.org/infra.git") # write your own here
  branch = "main"
  poll   = "2s"
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

# dev: every tag on main deploys.
environment "dev" {
  regions   = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  downgrade = "allow"
  destroy   = "allow"
}

# staging: only commits that dev has deployed, for the same team and Region.
environment "staging" {
  regions       = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  promotes_from = "dev"
  protected     = true # the code may start no programs
}

environment "prod" {
  regions  = ["us-east-1", "eu-central-1", "ap-southeast-1"]
  accounts = ["333333333333", "444444444444"] # whatever the repository says

  # After which proof.
  promotes_from     = "staging"
  soak              = env("WAYMARK_SOAK", "1h")
  require_signature = true
  signers           = ["release"]
  protected         = true

  # By whom.
  approvals       = 1
  approvers       = ["group:release-managers"]
  approval_expiry = "8h"

  # When. A run that comes at another time waits for the next window.
  window {
    cron      = "0 9 * * MON-THU"
    duration  = "8h"
    time_zone = "Europe/Berlin"
  }
  freeze "year-end" {
    from      = "2026-12-20"
    to        = "2027-01-02"
    time_zone = "Europe/Berlin"
    reason    = "year-end closing"
  }
}

# Whose signatures count. Put your own keys into these files.
signers "release" {
  openpgp         = ["keys/release.asc"]
  allowed_signers = "keys/allowed_signers"
}

# Who people are, and what they may do.
oidc "corp" {
  issuer        = env("OIDC_ISSUER", "https://login.example.org")
  client_id     = "waymark"
  client_secret = env("OIDC_CLIENT_SECRET")
}
access "everyone" {
  users = ["*"]
  role  = "viewer"
}
access "developers" {
  groups       = ["developers"]
  role         = "operator"
  environments = ["dev", "staging"]
}
access "release-managers" {
  groups       = ["release-managers"]
  role         = "approver"
  environments = ["prod"]
}
access "platform" {
  groups = ["platform"]
  role   = "admin"
}

# What the code may do. Rules of your own are in policies/.
policy {
  allowed_providers = ["hashicorp/*"]
  allowed_modules   = ["terraform-aws-modules/*/aws"]
  max_destroys      = 10
  folders           = ["policies"]

  rule "max-destroys" { # in dev a plan may remove as much as it likes, and says so
    level        = "warn"
    environments = ["dev"]
  }
}

gate "tflint" {}
