# A person who sets up the storage of states: waymark backend bootstrap, verify,
# locks and unlock. None of it reads what a state holds.

locals {
  operator_buckets = [
    {
      Sid    = "CreateAndHardenBuckets"
      Effect = "Allow"
      Action = [
        "s3:CreateBucket",
        "s3:ListBucket",
        "s3:GetBucketLocation",
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
    {
      Sid      = "ReleaseLockfiles"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:DeleteObject"]
      Resource = [for b in local.bucket_arns : "${b}/${local.any_key}.tflock"]
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
    {
      Sid      = "ReleaseLocks"
      Effect   = "Allow"
      Action   = ["dynamodb:GetItem", "dynamodb:DeleteItem"]
      Resource = local.table_arns
    },
  ]

  operator_kms = [
    {
      Sid      = "KeyOfStates"
      Effect   = "Allow"
      Action   = ["kms:DescribeKey"]
      Resource = [var.kms_key_arn]
    },
  ]
}
