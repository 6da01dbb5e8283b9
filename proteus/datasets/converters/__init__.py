"""From data sets' archives, as people have them, to the folders that a config names."""
