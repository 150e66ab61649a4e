"""What every model must beat: independent histograms, one Gaussian."""
