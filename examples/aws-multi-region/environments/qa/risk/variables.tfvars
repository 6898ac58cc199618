team    = "risk"
account = "444444444444"
