"""genus: every family of generative model behind one interface, with numbers that may be compared."""

from genus import data
from genus.compare import compare
from genus.density import DensityModel
from genus.learn import Trainer
from genus.likelihood import Estimate, Exact, LogProb, LowerBound
from genus.model import CapabilityError, Model
from genus.models.baseline import IndependentHistogram
from genus.models.bayesian_mixture import BayesianGaussianMixture
from genus.models.bayesian_mlp import BayesianMLP
from genus.models.bayesnet import BayesNet
from genus.models.categorical_mixture import CategoricalMixture
from genus.models.flow import IAF, MAF, NICE, Glow, RealNVP, SplineFlow
from genus.models.gaussian import Gaussian
from genus.models.linear import BayesianLinearRegression, GaussianBasis, Identity, Polynomial
from genus.models.made import MADE
from genus.models.mixture import GaussianMixture
from genus.models.pixelcnn import PixelCNN
from genus.models.pixelrnn import PixelRNN
from genus.models.ppca import FactorAnalysis, ProbabilisticPCA
from genus.models.rbm import RBM
from genus.models.transformer import AutoregressiveTransformer
from genus.models.vae import VAE
from genus.networks import MLP, Conv, ResNet, SameConv
from genus.predictor import Predictor
from genus.space import Space
from genus.store import load

__version__ = "0.1.0"

__all__ = [
    "IAF",
    "MADE",
    "MAF",
    "MLP",
    "NICE",
    "RBM",
    "VAE",
    "AutoregressiveTransformer",
    "BayesNet",
    "BayesianGaussianMixture",
    "BayesianLinearRegression",
    "BayesianMLP",
    "CapabilityError",
    "CategoricalMixture",
    "Conv",
    "DensityModel",
    "Estimate",
    "Exact",
    "FactorAnalysis",
    "Gaussian",
    "GaussianBasis",
    "GaussianMixture",
    "Glow",
    "Identity",
    "IndependentHistogram",
    "LogProb",
    "LowerBound",
    "Model",
    "PixelCNN",
    "PixelRNN",
    "Polynomial",
    "Predictor",
    "ProbabilisticPCA",
    "RealNVP",
    "ResNet",
    "SameConv",
    "Space",
    "SplineFlow",
    "Trainer",
    "compare",
    "data",
    "load",
]
