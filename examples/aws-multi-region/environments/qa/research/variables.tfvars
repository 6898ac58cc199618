team    = "research"
account = "333333333333"
