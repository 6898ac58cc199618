vpc_cidr           = "10.6.0.0/16"
availability_zones = ["a", "b"]
