"""Evaluation: plain functions of (model, X), or of arrays."""

from genus.evaluate.c2st import ClassifierTest, classifier_test, network_test
from genus.evaluate.calibration import Calibration, calibration
from genus.evaluate.coherence import Coherence, coherence
from genus.evaluate.completion import Completion, completion_score, hide
from genus.evaluate.copies import Memorisation, memorisation
from genus.evaluate.detection import Detection, belonging, detection
from genus.evaluate.diagnose import Diagnosis, diagnose
from genus.evaluate.discrepancy import MMD, mmd
from genus.evaluate.embedding import Embedding, Frechet, frechet, frechet_gaussians
from genus.evaluate.likelihood import Difference, Likelihood, likelihood_summary, paired_difference
from genus.evaluate.manifolds import Overlap, overlap
from genus.evaluate.outliers import Outliers, outlier_auroc
from genus.evaluate.robustness import Robustness, robustness
from genus.evaluate.samples import SampleQuality, SampleTest
from genus.evaluate.view import NumericView

__all__ = [
    "MMD",
    "Calibration",
    "ClassifierTest",
    "Coherence",
    "Completion",
    "Detection",
    "Diagnosis",
    "Difference",
    "Embedding",
    "Frechet",
    "Likelihood",
    "Memorisation",
    "NumericView",
    "Outliers",
    "Overlap",
    "Robustness",
    "SampleQuality",
    "SampleTest",
    "belonging",
    "calibration",
    "classifier_test",
    "coherence",
    "completion_score",
    "detection",
    "diagnose",
    "frechet",
    "frechet_gaussians",
    "hide",
    "likelihood_summary",
    "memorisation",
    "mmd",
    "network_test",
    "outlier_auroc",
    "overlap",
    "paired_difference",
    "robustness",
]
