"""Score models, diffusion and flow matching."""
