team    = "risk"
account = "888888888888"
