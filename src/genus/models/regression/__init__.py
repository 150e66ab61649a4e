"""Models of p(y | X)."""
