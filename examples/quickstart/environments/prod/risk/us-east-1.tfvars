vpc_cidr           = "10.10.0.0/16"
availability_zones = ["a", "b", "c"]
