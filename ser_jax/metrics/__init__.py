"""Metrics of classification, their intervals, and listeners on the same clips."""
