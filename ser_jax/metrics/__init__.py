"""Classification metrics, their confidence intervals, calibration, and human listeners."""
