# A person who sets up the storage of states with waymark backend bootstrap, and
# looks at it with verify. It reads no state. Locks are looked at and released by
# the service, with a session of the run role.

locals {
  any_buckets = [for b in var.state_buckets : replace(replace(b, "{scope}", "*"), "{team}", "*")]
  any_tables  = [for t in var.lock_tables : replace(replace(t, "{scope}", "*"), "{team}", "*")]

  # Of the environments that there are, and no others.
  bucket_arns = distinct(flatten([for env in sort(keys(var.environments)) : [for b in local.any_buckets : "${local.arn}:s3:::${replace(b, "{env}", env)}"]]))
  table_arns  = distinct(flatten([for env in sort(keys(var.environments)) : [for t in local.any_tables : "${local.arn}:dynamodb:${var.region}:${var.account}:table/${replace(t, "{env}", env)}"]]))

  operator_buckets = [
    {
      Sid    = "CreateAndHardenBuckets"
      Effect = "Allow"
      Action = [
        "s3:CreateBucket",
        "s3:ListBucket",
        "s3:GetBucketLogging",
        "s3:GetBucketOwnershipControls",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:PutBucketLogging",
        "s3:PutBucketOwnershipControls",
        "s3:PutBucketPolicy",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketVersioning",
        "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
      ]
      Resource = local.bucket_arns
    },
  ]

  operator_tables = [
    {
      Sid    = "CreateAndHardenTables"
      Effect = "Allow"
      Action = [
        "dynamodb:CreateTable",
        "dynamodb:DescribeTable",
        "dynamodb:UpdateTable",
        "dynamodb:DescribeContinuousBackups",
        "dynamodb:UpdateContinuousBackups",
      ]
      Resource = local.table_arns
    },
  ]
}
