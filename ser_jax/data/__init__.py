"""Feature records as training sees them: examples, batches, splits, the leakage audit."""
