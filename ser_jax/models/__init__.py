"""Networks and their layers; a new one is a file here and a line in registry.py."""
