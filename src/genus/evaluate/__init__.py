"""Evaluation: plain functions of (model, X), or of arrays."""

from genus.evaluate.c2st import ClassifierTest, classifier_test
from genus.evaluate.coherence import Coherence, coherence
from genus.evaluate.completion import Completion, completion_score, hide
from genus.evaluate.copies import Memorisation, memorisation
from genus.evaluate.diagnose import Diagnosis, diagnose
from genus.evaluate.discrepancy import MMD, mmd
from genus.evaluate.embedding import Embedding, Frechet, frechet, frechet_gaussians
from genus.evaluate.likelihood import Difference, Likelihood, likelihood_summary, paired_difference
from genus.evaluate.outliers import Outliers, outlier_auroc
from genus.evaluate.samples import SampleQuality, SampleTest
from genus.evaluate.view import NumericView

__all__ = [
    "MMD",
    "ClassifierTest",
    "Coherence",
    "Completion",
    "Diagnosis",
    "Difference",
    "Embedding",
    "Frechet",
    "Likelihood",
    "Memorisation",
    "NumericView",
    "Outliers",
    "SampleQuality",
    "SampleTest",
    "classifier_test",
    "coherence",
    "completion_score",
    "diagnose",
    "frechet",
    "frechet_gaussians",
    "hide",
    "likelihood_summary",
    "memorisation",
    "mmd",
    "outlier_auroc",
    "paired_difference",
]
