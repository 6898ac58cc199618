vpc_cidr = "10.7.0.0/16"
