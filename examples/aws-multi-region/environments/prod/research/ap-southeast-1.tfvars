vpc_cidr           = "10.21.0.0/16"
availability_zones = ["a", "b", "c"]
