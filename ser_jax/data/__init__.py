"""Feature records as training sees them: examples, splits, the leakage audit."""
