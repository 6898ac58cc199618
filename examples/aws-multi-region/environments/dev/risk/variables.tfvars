team    = "risk"
account = "222222222222"
