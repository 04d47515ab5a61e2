"""Many runs as one study: its runner, comparisons, claims and page."""
