"""All plots, under one name: figures of their own, without a global state."""

from __future__ import annotations

from matplotlib.figure import Figure

from genus.compare.table import Comparison
from genus.report import plots


def test_plots_are_figures_of_their_own(digits: Comparison):
    import matplotlib.pyplot as plt

    vae, mixture, space = digits["VAE"].model, digits["mixture"].model, digits.space
    drawn = [
        plots.image_grid(digits.test[:10], space),
        plots.learning_curve(vae),
        plots.completions(mixture, digits.test[:3], n=2),
        plots.reconstructions(vae, digits.test[:3]),
        plots.interpolations(vae, digits.test[:4], steps=3),
        plots.latent_map(vae, digits.test, digits.y_test),
        plots.manifold(vae, side=3),
        plots.latent_use(vae, digits.test),
        plots.component_means(mixture),
        plots.filters(digits["RBM"].model),
        plots.extremes(digits.test, digits["VAE"].log_prob.nats, space, n=3),
        plots.marginals(digits.test, digits["VAE"].samples, space),
        plots.principal_plane(digits.test, digits["VAE"].samples, space),
        plots.whiskers(["a", "b"], [2.0, 2.1], [0.01, 0.02], ["=", "≥"], "bits"),
    ]
    assert all(isinstance(f, Figure) for f in drawn)
    assert plt.get_fignums() == []


def test_every_plot_is_under_the_one_name():
    here = {name for name, value in vars(plots).items() if callable(value)}
    assert here == set(plots.__all__)
