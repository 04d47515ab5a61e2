"""Offline views of a clip: noise, pitch shift, time stretch."""
