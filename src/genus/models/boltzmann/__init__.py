"""Energies over visible and hidden units."""
