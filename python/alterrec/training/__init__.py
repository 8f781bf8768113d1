"""Schedule, supervision and the one loop over phases."""
