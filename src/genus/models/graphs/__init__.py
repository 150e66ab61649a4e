"""Bayesian networks: graphs, tables, exact inference."""
