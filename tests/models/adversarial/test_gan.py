"""GAN: what its parts are for, and what it says of what it cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import genus
from genus import GAN, MLP, CapabilityError, Trainer
from genus.distributions.marginals import Numbers
from genus.learn.rows import generator
from genus.models.adversarial import gan as module
from genus.networks.spectral import SpectralNorm

NET = MLP(16, 1, "leaky_relu")
QUICK = Trainer(
    epochs=10, batch_size=50, lr=2e-3, betas=(0.0, 0.99), schedule="constant", progress=False
)


def model(**args: Any) -> GAN:
    settings: dict[str, Any] = {"latent_dim": 2, "trainer": QUICK, "random_state": 0}
    return GAN(**({"generator": NET, "critic": NET} | settings | args))


@cache
def plane() -> np.ndarray:
    r = np.random.default_rng(0)
    a = r.normal(size=400)
    return np.stack([a, a + 0.3 * r.normal(size=400)], 1)


# ---------------------------------------------------------------------- the critic as a ratio


class Shift(nn.Module):
    """z + 2, which has something to learn and does not learn it."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Parameter(torch.full((), 2.0))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.two


class Judge(GAN):
    """Its generator stands still."""

    def losses(self, x: Tensor, given: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        critic, _ = super().losses(x, given)
        yield critic


@cache
def judge() -> Judge:
    x = np.random.default_rng(0).normal(size=(20_000, 1))
    trainer = QUICK.replace(epochs=10, batch_size=500, lr=1e-2, schedule="cosine")
    critic = MLP(32, 1, "silu")
    return Judge(Shift(), critic, latent_dim=1, penalty=0.0, trainer=trainer, random_state=0).fit(x)


def test_the_critic_learns_the_ratio_of_two_known_densities() -> None:
    """p = N(0, 1) and q = N(2, 1): D = p/(p + q), and JSD(p, q) = .33683."""
    n, fitted = 25_000, judge()
    real = np.random.default_rng(1).normal(size=(n, 1))
    drawn = fitted.sample(n, random_state=1)
    a, b = fitted.log_ratio(real), fitted.log_ratio(drawn)
    loss = np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean()
    assert math.log(2) - loss / 2 == pytest.approx(0.33683, abs=0.01)
    x = np.concatenate([real, drawn])[:, 0]
    learned = 1 / (1 + np.exp(-np.concatenate([a, b])))
    known = 1 / (1 + np.exp(2 * x - 2))
    assert np.abs(learned - known).mean() < 0.02


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"loss": "hinge", "penalty": 0.0}, "hinge.*only its sign.*decision_function"),
        ({"loss": "wasserstein-gp"}, "known but for a constant"),
        ({}, "penalty=1 holds the critic.*penalty=0"),
        ({"penalty": 0.0, "spectral_norm": True}, "spectral_norm=True holds"),
    ],
)
def test_a_ratio_is_read_only_where_the_critic_is_one(args: dict[str, Any], says: str) -> None:
    fitted = model(**args).set_params(trainer__epochs=1).fit(plane())
    assert fitted.decision_function(plane()).shape == (400,)
    with pytest.raises(CapabilityError, match=says):
        fitted.log_ratio(plane())


@pytest.mark.parametrize("name", ["log_prob", "score_samples", "score"])
def test_there_is_no_likelihood_and_it_says_why(name: str) -> None:
    assert not hasattr(GAN(), name)
    with pytest.raises(CapabilityError, match=f"GAN has no {name}: it draws rows.*log_ratio"):
        getattr(GAN(), name)(plane())
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = GAN().nonsense


# ---------------------------------------------------------------------- the parts of a loss


def steepness(fitted: GAN, X: np.ndarray) -> float:
    """The mean |∇D| at rows."""
    x = fitted.sight_.seen(torch.from_numpy(X).double())
    _, square = module.slope(fitted.criticise, x)
    return float(square.sqrt().mean().detach())


def test_r1_is_half_the_squared_slope_at_real_rows() -> None:
    fitted, x = (
        model().set_params(trainer__epochs=1).fit(plane()),
        torch.from_numpy(plane()).float(),
    )
    _, square = module.slope(fitted.criticise, fitted.sight_.seen(x))
    losses = [turns(fitted.set_params(penalty=p), x)[0][1] for p in (0.0, 4.0)]
    assert losses[1] - losses[0] == pytest.approx(2 * square.mean().item(), rel=1e-3)
    assert (
        GAN()._penalty == 1 and GAN(loss="minimax")._penalty == 1 and GAN(penalty=0)._penalty == 0
    )


def test_the_gradient_penalty_draws_slopes_to_one() -> None:
    args: dict[str, Any] = {"loss": "wasserstein-gp", "generator": Shift(), "critic": NET}
    rows = plane()[:, :1]
    some: dict[str, Any] = {"latent_dim": 1, "trainer": QUICK.replace(lr=1e-2), "random_state": 0}
    held, free = (Judge(**args, **some, penalty=p).fit(rows) for p in (10.0, 0.0))
    assert steepness(held, rows) == pytest.approx(1, abs=0.2)
    assert steepness(free, rows) > 3


def test_hinge_has_a_critic_of_spectral_norms() -> None:
    fitted = model(loss="hinge").fit(plane())
    layers = [m for m in fitted.critic_.modules() if isinstance(m, SpectralNorm)]
    assert len(layers) == 2
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.layer.weight.detach(), 2)
        assert layer.norm().item() == pytest.approx(largest.item(), rel=1e-2)
    assert steepness(fitted, plane()) <= 1.01
    free = model(loss="hinge", spectral_norm=False).set_params(trainer__epochs=1).fit(plane())
    assert not any(isinstance(m, SpectralNorm) for m in free.modules())


def turns(fitted: GAN, x: Tensor, *given: Tensor) -> list[tuple[nn.Module, float]]:
    fitted.rng = generator(0)
    try:
        return [(player, loss.item()) for player, loss in fitted.losses(x, *given)]
    finally:
        del fitted.rng


def test_the_critic_takes_several_steps_on_parts_of_a_batch(monkeypatch: Any) -> None:
    fitted = model(critic_steps=3).fit(plane())
    sizes, x = [], torch.from_numpy(plane()[:30]).float()
    own = GAN.critic_loss
    monkeypatch.setattr(
        GAN, "critic_loss", lambda self, x, *c: (sizes.append(len(x)), own(self, x, *c))[1]
    )
    players = [player for player, _ in turns(fitted, x)]
    assert players == [fitted.critic_] * 3 + [fitted.generator_] and sizes == [10] * 3


def test_a_penalty_leaves_autocast(monkeypatch: Any) -> None:
    types = []
    own = module.slope

    def noted(critic: Any, x: Tensor, *context: Tensor) -> Any:
        value, square = own(critic, x, *context)
        types.append(value.dtype)
        return value, square

    monkeypatch.setattr(module, "slope", noted)
    trainer = QUICK.replace(epochs=1, precision="bfloat16")
    fitted = model(trainer=trainer).fit(plane())
    assert set(types) == {torch.float32} and np.isfinite(fitted.sample(3)).all()


def test_a_rate_a_player() -> None:
    before = model(trainer=QUICK.replace(epochs=1, lr=1e-9, ema=None)).fit(plane())
    moved = []
    for share in (1.0, 1e-3):
        after = model(critic_rate=share, trainer=QUICK.replace(epochs=1)).fit(plane())
        for player in ("critic_", "generator_"):
            pairs = zip(
                getattr(after, player).parameters(),
                getattr(before, player).parameters(),
                strict=True,
            )
            moved.append(sum(float((a - b).detach().abs().sum()) for a, b in pairs))
    critic, drawer, slow, same = moved
    assert slow < 0.01 * critic and 0.5 < same / drawer < 2


def test_the_generator_is_averaged_and_the_critic_is_not() -> None:
    plain = model(trainer=QUICK.replace(epochs=2, ema=0.0)).fit(plane())
    averaged = model(trainer=QUICK.replace(epochs=2, ema=0.9)).fit(plane())
    for a, b in zip(plain.critic_.parameters(), averaged.critic_.parameters(), strict=True):
        assert torch.equal(a, b)
    first = next(iter(plain.generator_.parameters()))
    assert not torch.equal(first, next(iter(averaged.generator_.parameters())))


def test_history_has_a_number_a_player() -> None:
    line = model().fit(plane()).history_[-1]
    assert line["objective"] == pytest.approx(line["critic_"] + line["generator_"])


def test_a_loss_of_any_size_is_health() -> None:
    assert GAN().trouble(1e9, 0.0) == "" and GAN().trouble(-1e9, 1e-3) == ""
    assert GAN().trouble(float("nan"), 1.0) == "the loss is not finite"


# ---------------------------------------------------------------------- what it draws


@cache
def well_fitted() -> GAN:
    return model(trainer=QUICK.replace(epochs=60, ema=0.99)).fit(plane())


def test_it_draws_what_it_saw() -> None:
    drawn = well_fitted().sample(2000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), plane().mean(0), atol=0.25)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(plane().T), atol=0.3)


def test_collapse_is_measured_and_said() -> None:
    class Point(nn.Module):
        """It draws one row."""

        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.zeros(2))

        def forward(self, z: Tensor) -> Tensor:
            return self.at.expand(len(z), 2)

    with pytest.warns(UserWarning, match="near only [01]% of the training rows.*97%.*penalty"):
        fitted = model(generator=Point(), trainer=QUICK.replace(epochs=1)).fit(plane())
    assert fitted.coverage_ < 0.1
    good = well_fitted()
    assert good.coverage_ > 0.6 and good.precision_ > 0.6


def test_bits_that_are_drawn_are_not_called_collapsed() -> None:
    """Many rows are one: the ball of such a row has no extent, and a draw must be that row."""
    X = np.random.default_rng(0).integers(0, 2, (200, 2))
    fitted = model(trainer=QUICK.replace(epochs=1)).fit(X)
    assert fitted.coverage_ == 1
    X = np.random.default_rng(0).integers(0, 4, (200, 2))
    assert model(trainer=QUICK.replace(epochs=1)).fit(X, space="ordinal").coverage_ > 0.2


def test_conditions_are_met() -> None:
    """Without ⟨f(x), y⟩ the critic would not miss them."""
    r = np.random.default_rng(0)
    y = r.integers(0, 2, 400)
    x = np.where(y == 1, 2.0, -2.0)[:, None] + 0.5 * r.normal(size=(400, 1))
    fitted = model(trainer=QUICK.replace(epochs=40, ema=0.99)).fit(x, given=y)
    for label, centre in ((0, -2), (1, 2)):
        drawn = fitted.sample(200, given=label, random_state=0)
        assert drawn.mean() == pytest.approx(centre, abs=0.7)
    assert fitted.decision_function(x[:5], given=y[:5]).shape == (5,)
    assert not np.array_equal(
        fitted.decision_function(x[:5], given=y[:5]),
        fitted.decision_function(x[:5], given=1 - y[:5]),
    )


def test_l1_draws_answers_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 1))
    x = np.concatenate([y, -y], 1) + 0.1 * rng.normal(size=(400, 2))

    def away(weight: float) -> float:
        near = model(l1=weight, trainer=QUICK.replace(epochs=30)).fit(x, given=y)
        return float(np.abs(near.sample(400, given=y, random_state=0) - x).mean())

    assert away(100.0) < 0.5 * away(0.0)


def test_truncation_gives_usual_rows() -> None:
    fitted = model().fit(plane())
    wide, narrow = (fitted.sample(1000, truncation=t, random_state=0) for t in (None, 0.3))
    assert (narrow.std(0) < 0.5 * wide.std(0)).all()
    z = module._within(torch.randn(20_000, generator=generator(0)), 1.0)
    assert z.abs().max() <= 1
    known = 1 - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) / math.erf(1 / math.sqrt(2))
    assert z.var().item() == pytest.approx(known, abs=0.01)
    for bad in (0, -1, "wide"):
        with pytest.raises(ValueError, match="truncation"):
            fitted.sample(2, truncation=bad)


def test_encode_finds_the_nearest_row_that_can_be_drawn() -> None:
    fitted = model().fit(plane())
    z = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    rows = fitted.decode(z)
    again = fitted.decode(fitted.encode(rows))
    assert np.abs(again - rows).max() < 0.1 * rows.std()
    one = fitted.encode(rows[:1])
    np.testing.assert_allclose(one, fitted.encode(rows)[:1], atol=1e-6)


def test_shifts_move_each_image_by_its_own_step() -> None:
    fitted = GAN(shifts=1)
    fitted.rng = generator(0)
    seen = torch.zeros(200, 2, 5, 5)
    seen[:, 1, 2, 2] = 1
    moved = fitted._shifted(seen)
    at = moved[:, 1].flatten(1).argmax(1)
    places = {(int(i) // 5, int(i) % 5) for i in at}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    assert moved.sum() == 200 and not moved[:, 0].any()
    del fitted.rng
    assert GAN()._shifted(seen) is seen


def test_both_players_see_shifted_images() -> None:
    """Of images that are all alike the critic sees others, real and drawn, in each loss."""
    X = np.zeros((200, 5, 5), dtype=np.uint8)
    X[:, 2, 2] = 1
    fitted = model(shifts=1, penalty=0.0, trainer=QUICK.replace(epochs=1)).fit(X[:40])
    fitted.rng = generator(0)
    codes = torch.from_numpy(X).float()
    image = fitted.sight_.seen(codes.flatten(1))
    shown: list[Tensor] = []

    def criticise(seen: Tensor, *context: Tensor) -> Tensor:
        shown.append(seen)
        return seen.flatten(1).sum(1)

    fitted.generate = lambda n, *context: image[:n]  # type: ignore[method-assign]
    fitted.criticise = criticise  # type: ignore[method-assign]
    fitted.critic_loss(codes)
    fitted.generator_loss(codes)
    assert len(shown) == 3  # drawn and real, then drawn
    for seen in shown:
        at = seen.flatten(1).argmax(1)
        assert len(at.unique()) == 9 and torch.equal(seen.amax((1, 2, 3)), image.amax((1, 2, 3)))


# ---------------------------------------------------------------------- tables


def mixed(gaps: bool = False) -> pd.DataFrame:
    r = np.random.default_rng(0)
    a = r.random(400) < 0.7
    size = np.where(a, 1.0, -1.0) + 0.3 * r.normal(size=400)
    X = pd.DataFrame({"word": np.where(a, "yes", "no"), "flag": a, "size": size})
    if gaps:
        X.loc[a & (r.random(400) < 0.6), "size"] = np.nan  # among the yes
    return X


@pytest.mark.parametrize("words", ["straight-through", "gumbel"])
def test_words_and_numbers_of_a_table_go_together(words: str) -> None:
    trainer = QUICK.replace(epochs=40, ema=0.99, lr=5e-3)
    fitted = model(words=words, trainer=trainer).fit(mixed())
    drawn = fitted.sample(1000, random_state=0)
    assert set(drawn["word"]) <= {"yes", "no"} and drawn["flag"].dtype == bool
    assert (drawn["word"] == "yes").mean() == pytest.approx(0.7, abs=0.2)
    assert ((drawn["word"] == "yes") == drawn["flag"]).mean() > 0.85
    assert ((drawn["size"] > 0) == drawn["flag"]).mean() > 0.85


def test_words_are_relaxed_where_gumbel_is_asked_for() -> None:
    between = {}
    for words in ("straight-through", "gumbel"):
        fitted = model(words=words, trainer=QUICK.replace(epochs=1)).fit(mixed())
        fitted.rng = generator(0)
        seen = fitted.generate(500)[:, 1:].detach()  # but for the number
        between[words] = float(((seen.abs() > 0.05) & (seen.abs() < 0.95)).float().mean())
    assert between["straight-through"] == 0 and between["gumbel"] > 0.3


def test_numbers_of_a_table_are_read_once_and_teach_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the numbers of each batch are looked at, which takes longer."""
    looks = []
    look = Numbers.look

    def counted(self: Numbers, x: Tensor) -> Any:
        looks.append(len(x))
        return look(self, x)

    X = mixed(gaps=True)
    once, each = model(trainer=QUICK.replace(epochs=3)), model(trainer=QUICK.replace(epochs=3))
    # the look for collapse at the end is no part of learning
    monkeypatch.setattr(GAN, "_look_for_collapse", lambda self, rows: None)
    monkeypatch.setattr(Numbers, "look", counted)
    once.fit(X)
    assert looks == [len(X)]
    looks.clear()
    monkeypatch.setattr(module, "MOST", 0)
    each.fit(X)
    assert looks == 3 * [50] * (len(X) // 50)
    a, b = once.state_dict(), each.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_gaps_are_learned_and_not_drawn() -> None:
    X = mixed(gaps=True)
    fitted = model(trainer=QUICK.replace(epochs=40, ema=0.99)).fit(X)
    assert fitted.gaps_ == [2] and fitted.sight_.shape == (5,)
    drawn = fitted.sample(1000, random_state=0)
    assert not drawn.isna().any(axis=None)
    with torch.no_grad():
        z = torch.randn(2000, 2, generator=generator(0))
        seen = fitted.sight_.drawn(fitted.generator_(z), generator(0))
    hidden = seen[:, -1] == 1
    assert hidden.float().mean().item() == pytest.approx(X["size"].isna().mean(), abs=0.12)
    yes = seen[:, 1] > 0
    assert hidden[yes].float().mean() > hidden[~yes].float().mean() + 0.2
    assert fitted.encode(X[:5]).shape == (5, 2)


def test_it_is_saved_with_its_gaps_and_its_norms(tmp_path: Any) -> None:
    fitted = model(loss="hinge", trainer=QUICK.replace(epochs=1)).fit(mixed(gaps=True))
    fitted.save(tmp_path / "gan")
    again = genus.load(tmp_path / "gan")
    assert again.gaps_ == [2]
    assert fitted.sample(20, random_state=0).equals(again.sample(20, random_state=0))
    a, b = (m.decision_function(mixed(gaps=True)) for m in (fitted, again))
    assert np.array_equal(a, b)
