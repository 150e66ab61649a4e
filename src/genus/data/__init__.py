"""Data sets by name, and files that nobody prepared, with splits that repeat bit for bit.

    data = genus.data.load("digits")
    model.fit(data.train).score(data.test)

Every draw here comes from numpy's ``RandomState``, whose streams are frozen for good: a split or a
binarisation of a seed is the same on every machine and with every later version.
"""

from genus.data.binarising import binarize
from genus.data.dataset import Data, DataUnavailableError
from genus.data.loading import load, names
from genus.data.tables import read_csv, read_table
from genus.sources import Parquet

__all__ = [
    "Data",
    "DataUnavailableError",
    "Parquet",
    "binarize",
    "load",
    "names",
    "read_csv",
    "read_table",
]
