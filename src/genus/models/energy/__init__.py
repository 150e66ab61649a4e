"""Networks as energies: any density up to its normaliser, and a classifier that is one too."""
