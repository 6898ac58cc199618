vpc_cidr           = "10.2.0.0/16"
availability_zones = ["a", "b"]
