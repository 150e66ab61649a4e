"""Rows of images as pictures."""

from __future__ import annotations

import numpy as np
import pytest

import genus
from genus.report import images, plots
from genus.report.figures import MISSING


def test_pixels_scale_by_levels_in_every_layout():
    grey = np.array([[[0, 16], [8, 4]]], dtype=np.uint8)
    space = genus.Space((2, 2), "ordinal", 17, layout="HW")
    assert np.allclose(plots.pixels(grey, space)[0, :, :, 0], grey[0] / 16)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    last = plots.pixels(rgb, genus.Space((4, 5, 3), "ordinal", 256, layout="HWC"))
    first = plots.pixels(
        np.moveaxis(rgb, 3, 1), genus.Space((3, 4, 5), "ordinal", 256, layout="CHW")
    )
    assert np.array_equal(first, last) and np.allclose(last[..., :3], rgb / 255)


def test_pixels_tint_what_is_missing_and_refuse_tables():
    x = np.array([[[np.nan, 1.0], [0.0, 1.0]]])
    shown = plots.pixels(x, genus.Space((2, 2), "binary", layout="HW"))
    assert tuple(shown[0, 0, 0]) == MISSING and shown[0, 0, 1, 3] == 1
    with pytest.raises(ValueError, match="not images"):
        plots.pixels(np.zeros((1, 4)), genus.Space((4,), "binary"))


@pytest.mark.parametrize(
    ("space", "ends"),
    [
        (genus.Space((2, 2), "binary", layout="HW"), (0, 1)),
        (genus.Space((2, 2), "ordinal", 17, 3, layout="HW"), (3, 19)),
        (genus.Space((2, 2), "categorical", 2, values=(7, 40), layout="HW"), (7, 40)),
        (genus.Space((2, 2), layout="HW"), (0, 1)),  # a constant: not divided by 0
    ],
    ids=lambda v: getattr(v, "kind", None),
)
def test_black_and_white_are_the_ends_of_the_scale(space: genus.Space, ends: tuple[int, int]):
    assert images.limits(space, np.zeros((1, 2, 2))) == ends


def test_a_grid_holds_every_image_once_a_pixel_apart():
    x = np.arange(5)[:, None, None] * np.ones((5, 2, 3))
    space = genus.Space((2, 3), "ordinal", 5, layout="HW")
    sheet = np.asarray(images.image_grid(x, space, columns=2).axes[0].images[0].get_array())
    assert sheet.shape[:2] == (3 * 3 - 1, 2 * 4 - 1)
    for i in range(5):
        row, column = 3 * (i // 2), 4 * (i % 2)
        assert np.allclose(sheet[row : row + 2, column : column + 3, 0], i / 4)
    assert (sheet[2, :, 3] == 0).all()  # transparent between them


def test_signed_images_are_light_where_they_are_zero():
    W = np.array([[0.0, 1.0, -1.0, 0.0]])
    space = genus.Space((2, 2), "binary", layout="HW")
    figure = images.signed_grid(W, space)
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(sheet[0, 0, :3], sheet[1, 1, :3])
    assert not np.allclose(sheet[0, 1, :3], sheet[1, 0, :3])
