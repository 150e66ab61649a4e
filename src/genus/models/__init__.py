"""The families, one chapter a kind."""
