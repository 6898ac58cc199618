vpc_cidr           = "10.4.0.0/16"
availability_zones = ["a", "b"]
