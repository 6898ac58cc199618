team    = "research"
account = "111111111111"
