"""Levels and real pixels as points of a box."""

import torch

from genus import Space
from genus.models.energy.pixels import Pixels


def test_levels_go_to_the_box_and_back():
    space = Space((2, 2), "ordinal", levels=17)
    pixels = Pixels(space)
    x = torch.arange(17.0)[:, None].expand(17, 4)
    pixels.fit(x)
    y, log_det = pixels(x, x)
    assert float(y.min()) == -1 and float(y.max()) == 1 and bool((log_det == 0).all())
    torch.testing.assert_close(pixels.inverse(y + 0.06), x.double())  # less than half a level
    torch.testing.assert_close(pixels.between(y + 0.06), x.double() + 0.48)


def test_pixels_take_the_ends_of_the_rows_and_pay_for_the_scale():
    pixels = Pixels(Space((1, 2)))
    x = torch.tensor([[2.0, 4.0], [10.0, float("nan")]])
    pixels.fit(x)
    y, log_det = pixels(x, x)
    assert y[0].tolist() == [-1.0, -0.5] and y[1, 0] == 1 and bool(torch.isnan(y[1, 1]))
    torch.testing.assert_close(log_det[0], 2 * torch.log(torch.tensor(2 / 8.0)).double())
    torch.testing.assert_close(pixels.inverse(y[:1]), x[:1].double())


def test_the_box_is_that_of_the_data_whatever_levels_there_are():
    pixels = Pixels(Space((1, 2), "ordinal", levels=256))
    pixels.fit(torch.tensor([[0.0, 16.0]]))
    y, _ = pixels(torch.tensor([[8.0, 16.0]]), torch.zeros(1, 2))
    assert y.tolist() == [[0.0, 1.0]]
