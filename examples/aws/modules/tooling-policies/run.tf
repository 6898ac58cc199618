# The run role: who may assume it, and the most that any run may do. The service
# narrows each session further, to one state in one phase and to one account.

locals {
  run_trust = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AssumeForOneRun"
        Effect    = "Allow"
        Principal = { AWS = local.service_role_arn }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = { "sts:ExternalId" = var.external_id }
          StringLike = {
            # A session without these would not say which state is its own.
            "aws:RequestTag/env"   = "*"
            "aws:RequestTag/scope" = "*"
            "aws:RequestTag/team"  = "*"
            "sts:SourceIdentity"   = "waymark-run-*"
          }
        }
      },
      {
        Sid       = "TagForOneRun"
        Effect    = "Allow"
        Principal = { AWS = local.service_role_arn }
        Action    = "sts:TagSession"
        Condition = {
          StringEquals                = { "aws:RequestTag/env" = sort(keys(var.environments)) }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = local.tags }
          Null                        = { "sts:TransitiveTagKeys" = "true" }
        }
      },
      {
        Sid       = "NameTheRun"
        Effect    = "Allow"
        Principal = { AWS = local.service_role_arn }
        Action    = "sts:SetSourceIdentity"
        Condition = { StringLike = { "sts:SourceIdentity" = "waymark-run-*" } }
      },
    ]
  }

  run_state = [
    {
      Sid      = "OwnState"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = [for b in local.run_buckets : "${local.arn}:s3:::${b}/${local.run_key}"]
    },
    {
      # Without a prefix too: S3 calls a missing state forbidden otherwise.
      Sid      = "FindOwnState"
      Effect   = "Allow"
      Action   = "s3:ListBucket"
      Resource = [for b in local.run_buckets : "${local.arn}:s3:::${b}"]
      Condition = {
        StringEqualsIfExists = { "s3:prefix" = [local.run_key, "${local.run_key}.tflock", "env:/"] }
      }
    },
  ]

  run_lockfile = [
    {
      Sid      = "OwnLockfile"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Resource = [for b in local.run_buckets : "${local.arn}:s3:::${b}/${local.run_key}.tflock"]
    },
  ]

  run_table = [
    {
      Sid      = "OwnLock"
      Effect   = "Allow"
      Action   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]
      Resource = [for t in local.run_tables : "${local.arn}:dynamodb:${var.region}:${var.account}:table/${t}"]
      Condition = {
        "ForAllValues:StringEquals" = {
          "dynamodb:LeadingKeys" = flatten([for b in local.run_buckets : ["${b}/${local.run_key}", "${b}/${local.run_key}-md5"]])
        }
      }
    },
  ]

  run_kms = [
    {
      Sid      = "KeyOfStates"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = [var.kms_key_arn]
      Condition = {
        StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" }
      }
    },
  ]

  run_accounts = [
    for env, accounts in var.environments : {
      Sid      = "AccountsOf${replace(title(replace(env, "-", " ")), " ", "")}"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
      Resource = flatten([for a in accounts : [for role in var.workload_roles : "${local.arn}:iam::${a}:role/${role}"]])
      Condition = {
        StringEquals = { "aws:PrincipalTag/env" = env }
      }
    }
  ]
}
