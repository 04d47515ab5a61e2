"""Shared by every package: errors, files, concurrency, the command line, process settings."""
