"""The version is one number, which the package and the changelog name."""

from pathlib import Path

import genus
from genus.version import __version__

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def test_the_package_and_the_changelog_name_the_version():
    assert genus.__version__ == __version__
    assert f"## [{__version__}]" in CHANGELOG.read_text("utf-8")
