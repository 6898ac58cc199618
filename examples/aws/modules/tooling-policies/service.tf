# The service's own identity. It can assume the run role for one run at a time
# and reach no account by itself.

locals {
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
}
