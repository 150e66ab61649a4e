"""Two networks against each other: one draws rows, the other tells them from real ones."""
