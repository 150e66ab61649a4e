"""Discrete graphical models: tables on a graph, exact sums over them, structures learned from counts, and files of them."""
