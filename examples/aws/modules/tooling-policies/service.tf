# The service's own identity. It can assume the run role for one run at a time
# and reach no account by itself.

locals {
  any_key     = replace(replace(replace(var.state_key, "{env}", "*"), "{scope}", "*"), "{team}", "*")
  any_buckets = [for b in var.state_buckets : replace(replace(b, "{scope}", "*"), "{team}", "*")]
  any_tables  = [for t in var.lock_tables : replace(replace(t, "{scope}", "*"), "{team}", "*")]

  # Of the environments that there are, and no others.
  bucket_arns = distinct(flatten([for env in sort(keys(var.environments)) : [for b in local.any_buckets : "${local.arn}:s3:::${replace(b, "{env}", env)}"]]))
  table_arns  = distinct(flatten([for env in sort(keys(var.environments)) : [for t in local.any_tables : "${local.arn}:dynamodb:${var.region}:${var.account}:table/${replace(t, "{env}", env)}"]]))

  service_run = [
    {
      Sid      = "AssumeRunRole"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
      Resource = [local.run_role_arn]
    },
  ]

  service_events = [
    {
      Sid      = "TagEvents"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
      Resource = [local.queue_arn]
    },
  ]

  service_repositories = [
    {
      Sid      = "ReadRepositories"
      Effect   = "Allow"
      Action   = ["codecommit:GitPull"]
      Resource = local.repository_arns
    },
  ]

  # Who holds a lock, and did the state's serial move: the evidence for a run
  # whose end was not seen. It reads states, and states hold secrets.
  evidence_state = [
    {
      Sid      = "ReadStates"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = flatten([for b in local.bucket_arns : ["${b}/${local.any_key}", "${b}/${local.any_key}.tflock"]])
    },
    {
      Sid      = "FindStates"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = local.bucket_arns
    },
  ]

  evidence_table = [
    {
      Sid      = "ReadLocks"
      Effect   = "Allow"
      Action   = ["dynamodb:GetItem"]
      Resource = local.table_arns
    },
  ]

  evidence_kms = [
    {
      Sid       = "KeyOfStates"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.kms_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
    },
  ]
}
