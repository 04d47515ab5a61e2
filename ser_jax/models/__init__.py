"""Networks and their layers; a new one is entered in registry.py."""
