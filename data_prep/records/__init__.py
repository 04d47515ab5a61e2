"""From a corpus to feature records."""
