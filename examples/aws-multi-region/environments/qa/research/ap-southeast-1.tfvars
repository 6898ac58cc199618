vpc_cidr = "10.9.0.0/16"
