team    = "research"
account = "555555555555"
