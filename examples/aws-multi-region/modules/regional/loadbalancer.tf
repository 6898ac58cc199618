# A fixed response needs nothing behind the load balancer, so its group lets
# requests in and nothing out.
resource "aws_security_group" "web" {
  name        = "${local.name}-web"
  description = "HTTP from anywhere to the load balancer."
  vpc_id      = aws_vpc.this.id

  ingress {
    description = "HTTP from anywhere"
    from_port   = 80
    to_port     = 80
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }

  tags = { Name = "${local.name}-web" }
}

resource "aws_lb" "web" {
  # A name has 32 characters at most, so long ones are cut and told apart by a digest.
  name                       = length(local.name) <= 28 ? "${local.name}-web" : "${trimsuffix(substr(local.name, 0, 23), "-")}-${substr(sha1(local.name), 0, 8)}"
  internal                   = false
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.web.id]
  subnets                    = [for s in aws_subnet.public : s.id]
  drop_invalid_header_fields = true

  # The gateway must be there before, and go after.
  depends_on = [aws_internet_gateway.this]
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.web.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      message_body = "Hello from ${var.region}, ${var.team} ${var.env}\n"
      status_code  = "200"
    }
  }
}
