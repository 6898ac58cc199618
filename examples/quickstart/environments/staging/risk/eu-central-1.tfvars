vpc_cidr           = "10.5.0.0/16"
availability_zones = ["a", "b"]
