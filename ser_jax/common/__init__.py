"""What every package may use: errors, files, the command line, the process's settings."""
