vpc_cidr           = "10.3.0.0/16"
availability_zones = ["a", "b"]
