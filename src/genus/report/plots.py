"""Pictures of models and data, one small function each.

Every function returns a matplotlib ``Figure`` of its own (no pyplot, no global state): display it
in a notebook, or ``figure.savefig("x.png")``.
"""

from genus.report.charts import learning_curve, marginals, principal_plane, whiskers
from genus.report.codes import (
    aggregated_posterior,
    arcs,
    reconstructions_of,
    temperatures,
    traversals,
)
from genus.report.images import image_grid, limits, pixels, signed_grid
from genus.report.insides import (
    completions,
    component_means,
    extremes,
    filters,
    graph,
    interpolations,
    latent_map,
    latent_use,
    loadings,
    manifold,
    reconstructions,
)
from genus.report.latents import diagnosis

__all__ = [
    "aggregated_posterior",
    "arcs",
    "completions",
    "component_means",
    "diagnosis",
    "extremes",
    "filters",
    "graph",
    "image_grid",
    "interpolations",
    "latent_map",
    "latent_use",
    "learning_curve",
    "limits",
    "loadings",
    "manifold",
    "marginals",
    "pixels",
    "principal_plane",
    "reconstructions",
    "reconstructions_of",
    "signed_grid",
    "temperatures",
    "traversals",
    "whiskers",
]
