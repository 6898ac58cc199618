# CodeCommit says that a tag changed, EventBridge puts it into a queue.

locals {
  event_pattern = {
    source        = ["aws.codecommit"]
    "detail-type" = ["CodeCommit Repository State Change"]
    resources     = local.repository_arns
    detail = {
      event         = ["referenceCreated", "referenceUpdated", "referenceDeleted"]
      referenceType = ["tag"]
    }
  }

  queue_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "EventsOfTheRule"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = local.queue_arn
        Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
      },
      {
        Sid       = "TLSAlone"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.queue_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }
}
