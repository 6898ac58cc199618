vpc_cidr = "10.8.0.0/16"
