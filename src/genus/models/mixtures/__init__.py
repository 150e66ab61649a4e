"""Mixtures, by expectation-maximisation and by variational inference."""
