vpc_cidr           = "10.12.0.0/16"
availability_zones = ["a", "b", "c"]
