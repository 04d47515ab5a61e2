"""Feature records as training sees them: examples, batch loader, splits, the leakage audit."""
