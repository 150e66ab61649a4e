"""Markov chains, annealed importance sampling, particles."""
