"""Many runs as one study: runner, effects, claims, page."""
