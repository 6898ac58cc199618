team    = "risk"
account = "666666666666"
