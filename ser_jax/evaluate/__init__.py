"""Evaluation on the test set, its results.json and predictions.csv, and finished runs read back."""
