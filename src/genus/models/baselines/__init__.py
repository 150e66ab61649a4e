"""What every model must beat: independent columns, one Gaussian."""
