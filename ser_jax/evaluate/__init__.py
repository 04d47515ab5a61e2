"""The test set: predictions, results.json, and finished runs read back."""
