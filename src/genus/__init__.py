"""Every family of generative model behind one interface, with numbers that may be compared."""

from genus import data
from genus.compare.capabilities import capabilities
from genus.compare.run import compare
from genus.density import DensityModel
from genus.evaluate.diagnose import diagnose
from genus.imputer import Imputer
from genus.learn import Trainer
from genus.likelihood import Estimate, Exact, LogProb, LowerBound
from genus.model import CapabilityError, Model
from genus.models.adversarial.gan import GAN
from genus.models.autoregressive.made import MADE
from genus.models.autoregressive.pixelcnn import PixelCNN
from genus.models.autoregressive.pixelrnn import PixelRNN
from genus.models.autoregressive.transformer import AutoregressiveTransformer
from genus.models.baselines.gaussian import Gaussian
from genus.models.baselines.independent import Independent
from genus.models.boltzmann.dbm import DBM
from genus.models.boltzmann.dbn import DBN
from genus.models.boltzmann.dbn_classifier import DBNClassifier
from genus.models.boltzmann.machine import BoltzmannMachine
from genus.models.boltzmann.rbm import RBM
from genus.models.boltzmann.rbm_classifier import RBMClassifier
from genus.models.diffusion.diffusion import Diffusion
from genus.models.diffusion.flow_matching import FlowMatching
from genus.models.diffusion.score import ScoreModel
from genus.models.energy.ebm import EBM
from genus.models.energy.jem import JEM
from genus.models.flows.families import IAF, MAF, NICE, Glow, RealNVP, SplineFlow
from genus.models.graphs.bayesnet import BayesNet
from genus.models.latent.autoencoder import Autoencoder
from genus.models.latent.hierarchical_vae import HierarchicalVAE
from genus.models.latent.multimodal_vae import MultimodalVAE
from genus.models.latent.ppca import FactorAnalysis, ProbabilisticPCA
from genus.models.latent.vae import VAE
from genus.models.mixtures.bayesian_gaussian_mixture import BayesianGaussianMixture
from genus.models.mixtures.categorical_mixture import CategoricalMixture
from genus.models.mixtures.gaussian_mixture import GaussianMixture
from genus.models.regression.bayesian_linear import (
    BayesianLinearRegression,
    GaussianBasis,
    Identity,
    Polynomial,
)
from genus.models.regression.bayesian_mlp import BayesianMLP
from genus.networks.blueprints import MLP, Conv, ResNet, SameConv
from genus.networks.dit import DiT
from genus.networks.unet import UNet
from genus.outliers import OutlierDetector
from genus.predictor import Predictor
from genus.space import Space
from genus.store import load
from genus.version import __version__

__all__ = [
    "DBM",
    "DBN",
    "EBM",
    "GAN",
    "IAF",
    "JEM",
    "MADE",
    "MAF",
    "MLP",
    "NICE",
    "RBM",
    "VAE",
    "Autoencoder",
    "AutoregressiveTransformer",
    "BayesNet",
    "BayesianGaussianMixture",
    "BayesianLinearRegression",
    "BayesianMLP",
    "BoltzmannMachine",
    "CapabilityError",
    "CategoricalMixture",
    "Conv",
    "DBNClassifier",
    "DensityModel",
    "DiT",
    "Diffusion",
    "Estimate",
    "Exact",
    "FactorAnalysis",
    "FlowMatching",
    "Gaussian",
    "GaussianBasis",
    "GaussianMixture",
    "Glow",
    "HierarchicalVAE",
    "Identity",
    "Imputer",
    "Independent",
    "LogProb",
    "LowerBound",
    "Model",
    "MultimodalVAE",
    "OutlierDetector",
    "PixelCNN",
    "PixelRNN",
    "Polynomial",
    "Predictor",
    "ProbabilisticPCA",
    "RBMClassifier",
    "RealNVP",
    "ResNet",
    "SameConv",
    "ScoreModel",
    "Space",
    "SplineFlow",
    "Trainer",
    "UNet",
    "__version__",
    "capabilities",
    "compare",
    "data",
    "diagnose",
    "load",
]
