vpc_cidr           = "10.22.0.0/16"
availability_zones = ["a", "b", "c"]
