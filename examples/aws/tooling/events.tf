# The name is that which the policies expect, and part of the queue's URL.
locals {
  queue  = "waymark-tags"
  events = length(var.repositories) > 0 ? 1 : 0
}

resource "aws_cloudwatch_event_rule" "tags" {
  count = local.events

  name          = local.queue
  description   = "A tag was pushed, moved or deleted."
  event_pattern = module.policies.event_pattern
}

resource "aws_cloudwatch_event_target" "tags" {
  count = local.events

  rule = aws_cloudwatch_event_rule.tags[0].name
  arn  = aws_sqs_queue.tags[0].arn

  # Events that come before the queue lets them in are lost.
  depends_on = [aws_sqs_queue_policy.tags]
}

resource "aws_sqs_queue" "tags" {
  count = local.events

  name                       = local.queue
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120
  message_retention_seconds  = 345600
  sqs_managed_sse_enabled    = true

  # Waymark sets aside what it has received more than five times. Here ends only
  # what it never could.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[0].arn
    maxReceiveCount     = 20
  })
}

resource "aws_sqs_queue" "dead" {
  count = local.events

  name                      = "${local.queue}-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_policy" "tags" {
  count = local.events

  queue_url = aws_sqs_queue.tags[0].id
  policy    = module.policies.queue_policy
}
