"""Models with a latent vector: probabilistic PCA, factor analysis, the variational autoencoder."""
