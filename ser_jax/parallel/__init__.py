"""Devices: mesh, placement, compiled programs, several processes."""
