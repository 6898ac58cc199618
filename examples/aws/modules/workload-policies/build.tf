# What the code of examples/aws-multi-region creates, and no more: a network, a
# load balancer, a role. Write your own for what you deploy.

locals {
  workload_names = [for team in var.teams : "${team}-${var.env}-workload"]

  build = {
    Version = "2012-10-17"
    Statement = [
      {
        # Most of these know no resource when they create one, or none at all.
        Sid    = "Network"
        Effect = "Allow"
        Action = [
          "ec2:AssociateRouteTable",
          "ec2:AttachInternetGateway",
          "ec2:AuthorizeSecurityGroupEgress",
          "ec2:AuthorizeSecurityGroupIngress",
          "ec2:CreateInternetGateway",
          "ec2:CreateRoute",
          "ec2:CreateRouteTable",
          "ec2:CreateSecurityGroup",
          "ec2:CreateSubnet",
          "ec2:CreateTags",
          "ec2:CreateVpc",
          "ec2:DeleteInternetGateway",
          "ec2:DeleteRoute",
          "ec2:DeleteRouteTable",
          "ec2:DeleteSecurityGroup",
          "ec2:DeleteSubnet",
          "ec2:DeleteTags",
          "ec2:DeleteVpc",
          "ec2:Describe*",
          "ec2:DetachInternetGateway",
          "ec2:DisassociateRouteTable",
          "ec2:ModifySubnetAttribute",
          "ec2:ModifyVpcAttribute",
          "ec2:ReplaceRoute",
          "ec2:ReplaceRouteTableAssociation",
          "ec2:RevokeSecurityGroupEgress",
          "ec2:RevokeSecurityGroupIngress",
        ]
        Resource  = "*"
        Condition = { StringEquals = { "aws:RequestedRegion" = var.regions } }
      },
      {
        Sid    = "LoadBalancer"
        Effect = "Allow"
        Action = [
          "elasticloadbalancing:AddTags",
          "elasticloadbalancing:CreateListener",
          "elasticloadbalancing:CreateLoadBalancer",
          "elasticloadbalancing:DeleteListener",
          "elasticloadbalancing:DeleteLoadBalancer",
          "elasticloadbalancing:ModifyListener",
          "elasticloadbalancing:ModifyListenerAttributes",
          "elasticloadbalancing:ModifyLoadBalancerAttributes",
          "elasticloadbalancing:RemoveTags",
          "elasticloadbalancing:SetIpAddressType",
          "elasticloadbalancing:SetSecurityGroups",
          "elasticloadbalancing:SetSubnets",
        ]
        Resource = flatten([for region in var.regions : [
          "${local.arn}:elasticloadbalancing:${region}:${var.account}:loadbalancer/app/*",
          "${local.arn}:elasticloadbalancing:${region}:${var.account}:listener/app/*",
        ]])
      },
      {
        Sid       = "SeeLoadBalancers"
        Effect    = "Allow"
        Action    = "elasticloadbalancing:Describe*"
        Resource  = "*"
        Condition = { StringEquals = { "aws:RequestedRegion" = var.regions } }
      },
      {
        Sid      = "FirstLoadBalancerOfTheAccount"
        Effect   = "Allow"
        Action   = "iam:CreateServiceLinkedRole"
        Resource = "${local.arn}:iam::${var.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/AWSServiceRoleForElasticLoadBalancing"
        Condition = {
          StringEquals = { "iam:AWSServiceName" = "elasticloadbalancing.amazonaws.com" }
        }
      },
      {
        Sid    = "RoleOfTheWorkload"
        Effect = "Allow"
        Action = [
          "iam:AddRoleToInstanceProfile",
          "iam:CreateInstanceProfile",
          "iam:CreateRole",
          "iam:DeleteInstanceProfile",
          "iam:DeleteRole",
          "iam:GetInstanceProfile",
          "iam:GetRole",
          "iam:ListAttachedRolePolicies",
          "iam:ListInstanceProfilesForRole",
          "iam:ListRolePolicies",
          "iam:RemoveRoleFromInstanceProfile",
          "iam:TagInstanceProfile",
          "iam:TagRole",
          "iam:UntagInstanceProfile",
          "iam:UntagRole",
          "iam:UpdateAssumeRolePolicy",
          "iam:UpdateRole",
          "iam:UpdateRoleDescription",
        ]
        Resource = flatten([for name in local.workload_names : [
          "${local.arn}:iam::${var.account}:role/${name}",
          "${local.arn}:iam::${var.account}:instance-profile/${name}",
        ]])
      },
      {
        Sid      = "RoleIntoItsProfile"
        Effect   = "Allow"
        Action   = "iam:PassRole"
        Resource = [for name in local.workload_names : "${local.arn}:iam::${var.account}:role/${name}"]
      },
    ]
  }
}
