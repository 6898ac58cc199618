vpc_cidr           = "10.24.0.0/16"
availability_zones = ["a", "b", "c"]
