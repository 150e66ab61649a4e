"""Evaluation: plain functions of (model, X), or of arrays."""

from genus.evaluate.completion import Completion, completion_score, hide
from genus.evaluate.likelihood import Difference, Likelihood, likelihood_summary, paired_difference
from genus.evaluate.outliers import Outliers, outlier_auroc
from genus.evaluate.samples import (
    MMD,
    ClassifierTest,
    Embedding,
    Features,
    Frechet,
    Memorisation,
    SampleQuality,
    SampleTest,
    classifier_test,
    frechet,
    frechet_gaussians,
    memorisation,
    mmd,
)

__all__ = [
    "MMD",
    "ClassifierTest",
    "Completion",
    "Difference",
    "Embedding",
    "Features",
    "Frechet",
    "Likelihood",
    "Memorisation",
    "Outliers",
    "SampleQuality",
    "SampleTest",
    "classifier_test",
    "completion_score",
    "frechet",
    "frechet_gaussians",
    "hide",
    "likelihood_summary",
    "memorisation",
    "mmd",
    "outlier_auroc",
    "paired_difference",
]
