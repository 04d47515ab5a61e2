"""Damages files, tables and runs at random, and looks for what falls; `make torture`."""
