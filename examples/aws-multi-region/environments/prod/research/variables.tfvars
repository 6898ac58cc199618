team    = "research"
account = "777777777777"
