"""Pictures of models and data, one small function each.

Every function returns a matplotlib ``Figure`` of its own (no pyplot, no global state): display it
in a notebook, or ``figure.savefig("x.png")``.
"""

from genus.report.charts import (
    attacked,
    learning_curve,
    marginals,
    principal_plane,
    reliability_diagram,
    whiskers,
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

__all__ = [
    "attacked",
    "completions",
    "component_means",
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
    "reliability_diagram",
    "signed_grid",
    "whiskers",
]
