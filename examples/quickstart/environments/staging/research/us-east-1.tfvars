vpc_cidr           = "10.1.0.0/16"
availability_zones = ["a", "b"]
