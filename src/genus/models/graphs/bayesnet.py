"""Bayesian networks of discrete variables (Pearl, 1988; Koller & Friedman, 2009).

    p(x) = Π_j p(x_j | x_Pa(j))
    θ_j(v | pa) = (N_j(pa, v) + α) / (N_j(pa) + α r_j)     counts, and a Dirichlet(α) prior's mean

Pa(j) are the parents of j in a graph without cycles, and each factor is a table.

Missing cells enter by expected counts (EM; Lauritzen, 1995), and are summed over exactly in
everything that is said. A column cut into bins adds p(x | bin), which is that of the column on its
own (``genus.distributions.bins``).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genus.coding import Column, column_codes, series_of
from genus.distributions.bins import Bins
from genus.distributions.dependence import Indicators, spanning_tree
from genus.distributions.even import EvenBins, cut
from genus.dtypes import is_calendar
from genus.learn.fit import Fit
from genus.learn.progress import CtrlC
from genus.learn.rows import Rows
from genus.learn.starts import warn_unless_converged
from genus.learn.sums import accumulate, solve
from genus.likelihood import Exact, LogProb
from genus.model import Model, with_index
from genus.models.graphs.bif import BifNetwork, read_bif, write_bif
from genus.models.graphs.contraction import check_columns
from genus.models.graphs.structure import SCORES, Counts, hill_climb
from genus.models.graphs.tables import Net, ordered
from genus.settings import Each, Label, Number, OneOf, Rule, Several, Whole
from genus.space import Space
from genus.typing import GivenLike, RowsLike, available_if

STRUCTURES = ("chow-liu", "hill-climb", "naive")
EDGE = Several(Label(), Label(), says="an edge (parent, child)")
EDGES = Each(EDGE, "a list of edges (parent, child)")
ROUNDS = 3  # times a structure is learned from rows whose missing cells were drawn

has_target = available_if(lambda self: self.target is not None)


class BayesNet(Model):
    r"""A Bayesian network of discrete columns, in which everything that is asked is exact.

        p(x) = Π_j p(x_j | x_Pa(j))

    NaN marks missing cells in fit and in every verb. Queries: :meth:`query`, :meth:`marginals`,
    :meth:`explain`; the tables: :meth:`cpt`.

    Parameters
    ----------
    structure : str or list of pairs, default="hill-climb"
        Edges (parent, child), by column name or number: expert knowledge; ``chow-liu``, the most
        likely tree; ``hill-climb``, the best graph that single changes of an edge find; ``naive``,
        the target as the parent of all.
    target : str or int or None, default=None
        The column that ``predict`` tells from the others; with ``naive``, their parent. Where X
        has no such column, it is the name of y in ``fit(X, y)``.
    pseudo_count : float, default=1.0
        α ≥ 0, added to every entry of every table. 0: maximum likelihood, under which what was
        never seen has probability 0.
    bins : int or None, default=8
        Continuous columns are cut at their quantiles into at most so many bins, beside those of
        heavy values: what columns say about each other goes by bins, and inside a bin the values
        keep the column's own distribution. ``log_prob`` is that of the values as they were given.
        None: continuous columns are refused.
    max_levels : int or None, default=8
        Columns of whole numbers with more values are cut into at most so many bins likewise. None:
        each value that was seen has a bin of its own.
    max_parents : int, default=4
        Of ``hill-climb``: the most parents of a node.
    criterion : {"bic", "bdeu"}, default="bdeu"
        Of ``hill-climb``.
    equivalent_sample_size : float, default=10.0
        α of ``bdeu``.
    inside : {"marginal", "even"}, default="marginal"
        Inside a bin, values keep the column's own distribution, or are evenly likely.
    em_iterations : int, default=100
        Iterations of EM, with missing cells, at most.
    tol : float, default=0.0001
        EM stops when an iteration gains less than ``tol`` nats a row.
    random_state : int, generator or None, default=None
        An int, or a numpy generator; None: fresh at every fit.

    Attributes
    ----------
    edges_
        Pairs (parent, child).
    adjacency_
        (d, d), [i, j] True where i → j.
    counts_
        All N_j(pa, v), one table after another.

    Examples
    --------
    The tables of a graph that an expert drew, and those that the chain rule alone needs:

    >>> import itertools, pandas as pd
    >>> from genus import BayesNet
    >>> states = {"age": 3, "salary": 3, "gender": 2, "marital": 2, "label": 2}
    >>> rows = itertools.product(*map(range, states.values()))
    >>> X = pd.DataFrame(rows, columns=list(states)).astype("category")
    >>> chain = BayesNet(list(itertools.combinations(states, 2))).fit(X)
    >>> edges = [("age", "salary"), ("marital", "salary"), ("salary", "label"), ("gender", "label")]
    >>> expert = BayesNet(edges).fit(X)
    >>> chain.n_parameters(), expert.n_parameters()
    (138, 37)
    >>> chain.n_parameters(free=True), expert.n_parameters(free=True)
    (71, 22)
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "structure": OneOf(*STRUCTURES) | EDGES,
        "target": Label() | None,
        "pseudo_count": Number(0),
        "bins": Whole(2) | None,
        "max_levels": Whole(2) | None,
        "max_parents": Whole(0),
        "criterion": OneOf(*SCORES),
        "equivalent_sample_size": Number(above=0),
        "inside": OneOf("marginal", "even"),
        "em_iterations": Whole(1),
        "tol": Number(0),
    }
    allow_nan = True
    learned_by = "counting, EM"
    learned_shapes = ("counts_", "cuts_", "shares_")

    adjacency_: Tensor
    bins_: Bins
    counts_: Tensor
    cuts_: Tensor
    tails_: Tensor
    shares_: Tensor
    _net: Net | None

    def __init__(
        self,
        structure: Any = "hill-climb",
        target: str | int | None = None,
        pseudo_count: float = 1.0,
        bins: int | None = 8,
        max_levels: int | None = 8,
        max_parents: int = 4,
        criterion: str = "bdeu",
        equivalent_sample_size: float = 10.0,
        inside: str = "marginal",
        em_iterations: int = 100,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.structure = structure
        self.target = target
        self.pseudo_count = pseudo_count
        self.bins = bins
        self.max_levels = max_levels
        self.max_parents = max_parents
        self.criterion = criterion
        self.equivalent_sample_size = equivalent_sample_size
        self.inside = inside
        self.em_iterations = em_iterations
        self.tol = tol
        self.random_state = random_state

    def fit(
        self,
        X: RowsLike,
        y: Any = None,
        *,
        given: GivenLike = None,
        space: Space | str | None = None,
        validation: float | RowsLike | None = None,
        resume: bool | str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Learn from the rows of X; see :meth:`Model.fit`.

        y: values of the target, (n,), where ``target`` names a column that X lacks; else ignored.
        """
        rows = self._with_target(X, y)
        return super().fit(
            rows, given=given, space=space, validation=validation, resume=resume, device=device
        )

    def score(self, X: RowsLike, y: Any = None, *, given: GivenLike = None) -> float:
        """Mean log-probability in nats, of X and y together where X lacks the target."""
        return super().score(self._with_target(X, y), given=given)

    def _with_target(self, X: Any, y: Any) -> Any:
        """X with y as its target column, where it has none."""
        if y is None or self.target is None:
            return X
        array = not isinstance(X, pd.DataFrame)
        if array and (np.ndim(X) != 2 or self.target in range(np.shape(X)[1])):
            return X
        table = pd.DataFrame(np.asarray(X)) if array else X
        if self.target in table.columns:
            return X
        if array and isinstance(self.target, str):
            table = table.set_axis(table.columns.astype(str), axis=1)
        values = pd.Series(np.asarray(y), index=table.index)
        if len(values) and values.dtype.kind in "iub":
            values = values.astype("category")
        return table.assign(y=values).set_axis([*table.columns, self.target], axis=1)

    # ------------------------------------------------------------------ what it is made of

    def build(self, space: Space) -> None:
        if self.target is not None:
            self._place(self.target, "target")
        elif isinstance(self.structure, str) and self.structure == "naive":
            raise ValueError(
                "structure='naive' needs target=, the column that is the parent of all others, "
                "or a name for y of fit(X, y)"
            )
        kw: dict[str, Any] = {"dtype": torch.float64}
        self.register_buffer("adjacency_", torch.zeros(space.dim, space.dim, dtype=torch.bool))
        self.register_buffer("counts_", torch.zeros(0, **kw))
        if self.inside == "marginal":
            self.bins_ = Bins(space, self.bins, self.max_levels)
        else:
            self.register_buffer("cuts_", torch.zeros(space.dim, 0, **kw))
            self.register_buffer("tails_", torch.zeros(space.dim, **kw))
            self.register_buffer("shares_", torch.zeros(space.dim, 0, **kw))
        self._net = None

    def _bins(self) -> Bins | EvenBins:
        if self.inside == "marginal":
            return self.bins_
        return EvenBins(self.cuts_, self.tails_, self.shares_, self.space_.cardinality)

    def _cut(self, x: Tensor) -> None:
        """Learn the bins from rows x (n, d)."""
        if self.inside == "marginal":
            self.bins_.fit(x)
        else:
            found = cut(x, self.space_, self.bins, self.max_levels, self.pseudo_count)
            self.cuts_, self.tails_, self.shares_ = (t.to(x.device) for t in found)

    def net(self) -> Net:
        """The graph and the tables, in the form that the computations want."""
        if self._net is None or self._net.group.device != self.counts_.device:
            self._net = Net.of(self.adjacency_, self._bins().cards).learned(
                self.counts_, self.pseudo_count
            )
        return self._net

    def _place(self, name: Any, argument: str = "") -> int:
        """The number of a column given by name or number, in that argument."""
        names = [c.name for c in self.space_.columns]
        if name in names:
            return names.index(name)
        if (
            isinstance(name, int | np.integer)
            and not isinstance(name, bool)
            and 0 <= name < self.space_.dim
        ):
            return int(name)
        known = (
            ", ".join(map(repr, names[:10])) + (" …" if len(names) > 10 else "")
            if names
            else f"0 … {self.space_.dim - 1}"
        )
        where = f"{argument}: " if argument else ""
        raise ValueError(f"{where}there is no column {name!r}: choose from {known}")

    def _column(self, j: int) -> Column:
        s = self.space_
        return s.columns[j] if s.columns else Column(j, s.kind, s.levels, s.low, s.values)

    def _name(self, j: int) -> Any:
        return self._column(j).name

    @property
    def edges_(self) -> list[tuple[Any, Any]]:
        """(parent, child) of every edge, by column name, or number where columns have none."""
        self._check_fitted()
        return [(self._name(p), self._name(c)) for p, c in self.adjacency_.nonzero().tolist()]

    # ------------------------------------------------------------------ structure

    def _connect(self, edges: Any) -> None:
        """Take a structure, with counts of 0. Raises ValueError where it has a cycle."""
        adjacency = np.zeros(tuple(self.adjacency_.shape), dtype=bool)
        for p, c in edges:
            adjacency[p, c] = True
        if ordered([np.flatnonzero(pa).tolist() for pa in adjacency.T]) is None:
            raise ValueError(
                "structure= has a cycle: the edges must lead from causes to effects and never "
                "back; drop or turn one of them"
            )
        self.adjacency_ = torch.from_numpy(adjacency).to(self._device())
        self._net = Net.of(self.adjacency_, self._bins().cards)
        self.counts_ = torch.zeros_like(self._net.group, dtype=torch.float64)
        self.maximise({"counts": self.counts_})

    def _search(self, codes: Tensor, fit: Fit) -> list[tuple[int, int]]:
        """The edges of a structure that is learned from whole rows, on the processor.

        A search is a sequence of small counts, each of which waits for the last.
        """
        codes = codes.cpu()
        root = 0 if self.target is None else self._place(self.target)
        cards = self._bins().cards
        if self.structure == "chow-liu":
            return spanning_tree(Indicators(codes, cards).mutual_information().numpy(), root)
        with CtrlC() as ctrl_c:
            go_on = lambda: not ctrl_c.hit and fit.time_left() > 0  # noqa: E731
            edges = hill_climb(
                Counts(codes, cards),
                self.criterion,
                self.equivalent_sample_size,
                self.max_parents,
                go_on=go_on,
            )
            if ctrl_c.hit:
                self.interrupted_ = True
        return edges

    def _given_edges(self) -> list[tuple[int, int]]:
        places = [[self._place(name, "structure") for name in edge] for edge in self.structure]
        return [(parent, child) for parent, child in places]

    def _learn_structure(self, codes: Tensor, fit: Fit) -> None:
        """A structure that is learned; where cells are missing, from rows drawn a few times."""
        missing = bool((codes < 0).any())
        if missing:
            self._connect([])
            self.maximise(accumulate(self, fit.rows))
        for _ in range(ROUNDS if missing else 1):
            filled = self.net().filled(codes.clone(), self.rng) if missing else codes
            self._connect(self._search(filled, fit))
            if missing:
                self.maximise({"counts": self.net().counts(filled)})

    @torch.no_grad()
    def learn(self, fit: Fit) -> None:
        rows = fit.rows
        few = rows.looked == len(rows)
        as_it_is = few and not rows.streams and not rows.draw
        x = (rows.x if as_it_is else rows.look(rng=self.rng)[0]).flatten(1)
        resumed = len(self.counts_) > 0
        if not resumed:
            self._cut(x)
        # they are codes already
        whole = not x.is_floating_point() and not len(self._bins().columns())
        codes = x if whole else self._bins().encode(x)
        work = Rows(codes)
        if not few:
            small = torch.int16 if max(self._bins().cards) < 2**15 else torch.int32
            encode = lambda x: self._bins().encode(x.flatten(1)).to(small)  # noqa: E731
            work = rows.mapped(encode, self.rng)
        inner = dataclasses.replace(fit, rows=work)
        if not resumed:
            if not isinstance(self.structure, str):
                self._connect(self._given_edges())
            elif self.structure == "naive":
                t = self._place(self.target)
                self._connect((t, j) for j in range(codes.shape[1]) if j != t)
            else:
                self._learn_structure(codes, inner)
        if not any(bool((c < 0).any()) for (c,) in work.chunks(work.at_once)):
            count = lambda c: {"counts": self.net().counts(c.long())}  # noqa: E731
            self.maximise(accumulate(self, work, work.at_once, count))
            return
        self.converged_ = solve(
            self,
            inner,
            max_iter=self.em_iterations,
            tol=self.tol,
            start=getattr(self, "n_iter_", 0),
        )
        warn_unless_converged(self, limit="em_iterations")

    def statistics(self, x: Tensor) -> dict[str, Tensor]:
        """Sums over rows of codes, −1 where missing: every table's counts, likelihood, rows."""
        codes = x.long()
        weight = torch.tensor(float(len(codes)), dtype=torch.float64, device=codes.device)
        return {
            "counts": self.net().counts(codes),
            "log_likelihood": self.net().log_joint(codes).sum(),
            "weight": weight,
        }

    def maximise(self, sums: dict[str, Tensor]) -> None:
        """The tables of these counts."""
        self.counts_ = sums["counts"]
        self._net = self.net().learned(self.counts_, self.pseudo_count)

    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Add the counts of more rows.

        Structure and bins stay as the first call, which is ``fit``, found them. Missing cells count
        as the present network expects them.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X)
        with torch.no_grad():
            rows = self._encode_rows(X, missing=True).to(self._device())
            x = self._without_new_words(rows)[0]
            codes = self._bins().encode(x.flatten(1))
            sums = [self.net().counts(c) for c in codes.split(8192)]
            self.maximise({"counts": torch.stack([self.counts_, *sums]).sum(0)})
        return self

    # ------------------------------------------------------------------ verbs

    @staticmethod
    def _uniform(rng: torch.Generator) -> Any:
        return lambda *shape: torch.rand(
            shape, generator=rng, dtype=torch.float64, device=rng.device
        )

    def _possible(self, codes: Tensor) -> Tensor:
        """The codes, or a ValueError that names a row of probability 0."""
        if self.pseudo_count == 0 and bool((bad := self.net().log_joint(codes) == -math.inf).any()):
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"X has probability 0 under the model in row {row}: drop it or use pseudo_count=1"
            )
        return codes

    def explain(self, X: Any) -> Any:
        """X with its missing cells at their most probable explanation, all of them together.

        argmax p(missing, observed). Cells of a column that was cut into bins get the bin's median.
        Raises ValueError for a row of probability 0.
        """
        self._check_fitted()
        given = self._encode_rows(X, missing=True).to(self._device())
        given = given if given.is_floating_point() else given.double()
        x = self._without_new_words(given)[0]
        with torch.no_grad():
            codes = self._possible(self._bins().encode(x.flatten(1)))
            median = self._bins().decode(
                self.net().explained(codes),
                lambda *shape: torch.full(shape, 0.5, dtype=torch.float64, device=x.device),
            )
        best = torch.where(torch.isnan(x), median.reshape(x.shape).to(x.dtype), x)
        answer = with_index(self.space_.decode(best), X)
        return self._with_new_words(answer, X, torch.isnan(x) & ~torch.isnan(given))

    # ------------------------------------------------------------------ queries

    def query(self, targets: Any, evidence: Any = None) -> pd.DataFrame:
        """p(targets | evidence), exactly.

        A row for each row of evidence, a column for each value of the target.

        targets: a column, by name or number, or a list of them, whose joint distribution is given
            (columns of two or more levels).
        evidence: a dict from columns to a value, or to as many values as there are rows; or rows
        like those of fit, of which a DataFrame may hold some columns only. What is NaN, absent, or
        a word that fit never saw is not known, and in rows the targets' cells are not read. Raises
        ValueError for values that a column cannot have, for evidence that has probability 0, and
        for targets whose joint distribution has more than 2²⁴ values over all rows.
        """
        self._check_fitted()
        names = list(targets) if isinstance(targets, list | tuple) else [targets]
        places = tuple(self._place(t) for t in names)
        if len(set(places)) < len(places) or not places:
            raise ValueError(
                f"targets={targets!r}: a column, or a list of different columns, is needed"
            )
        codes, index = self._evidence(evidence, places)
        check_columns([len(self._labels(t)) for t in places], len(codes))
        values = [self._labels(t) for t in places]
        columns = (
            pd.MultiIndex.from_product(values, names=names)
            if len(places) > 1
            else pd.Index(values[0], name=names[0])
        )
        p = self.net().posterior(places, codes)
        return pd.DataFrame(p.reshape(len(p), -1).cpu().numpy(), index=index, columns=columns)

    def marginals(self, evidence: Any = None) -> dict[Any, pd.DataFrame]:
        """p(column | evidence) of every column by itself, all from one pass.

        Evidence as in :meth:`query`; observed columns are certain.
        """
        self._check_fitted()
        codes, index = self._evidence(evidence, ())
        every = enumerate(self.net().marginals(codes))
        return {
            self._name(j): pd.DataFrame(
                p.cpu().numpy(), index, pd.Index(self._labels(j), name=self._name(j))
            )
            for j, p in every
        }

    def _evidence(self, evidence: Any, targets: tuple[int, ...]) -> tuple[Tensor, pd.Index]:
        """Codes (n, d) of what is known, −1 where nothing is, and the rows' labels."""
        # only the columns that are there are read
        if evidence is None or isinstance(evidence, dict | pd.DataFrame):
            known = {self._place(k): v for k, v in ({} if evidence is None else evidence).items()}
            lengths = {len(v) for v in known.values() if np.ndim(v)}
            if len(lengths) > 1 or len(known) < len(() if evidence is None else evidence.keys()):
                raise ValueError(
                    "evidence needs different columns, "
                    "with a value each or as many values as there are rows"
                )
            if isinstance(evidence, pd.DataFrame):
                index, known = evidence.index, {j: v for j, v in known.items() if j not in targets}
            else:
                index = pd.RangeIndex(max(lengths, default=1))
            if both := [t for t in targets if t in known]:
                raise ValueError(
                    f"evidence holds {self._name(both[0])!r}, which is asked for: "
                    "drop it from one of the two"
                )
            x = torch.full((len(index), self.space_.dim), math.nan, dtype=torch.float64)
            for j, v in known.items():
                x[:, j] = torch.from_numpy(
                    column_codes(pd.Series(v if np.ndim(v) else [v]), self._column(j))
                )
        else:
            x = self.space_.encode(evidence, missing=True).flatten(1)
            index = pd.RangeIndex(len(x))
        x = x.to(self._device())
        if any(self.space_.open):  # a word that fit never saw tells nothing
            x = x.double().masked_fill(self._new_words(x), math.nan)
        codes = self._bins().encode(x)
        codes[:, list(targets)] = -1
        return codes, index

    @property
    def classes_(self) -> np.ndarray:
        """The target's values, in the order of ``predict_proba``'s columns."""
        self._check_fitted()
        return np.asarray(self._labels(self._place(self.target)))

    @has_target
    def predict_proba(self, X: RowsLike) -> np.ndarray:
        """p(target | the other columns) of each row, (n, classes).

        X may lack the target; where it holds it, it is not read.
        """
        self._check_fitted()
        t = self._place(self.target)
        rows: Any = X
        shape: tuple[int, ...] = () if isinstance(rows, pd.DataFrame) else np.shape(rows)
        if len(shape) == 2 and shape[1] == self.space_.dim - 1:
            rows = np.insert(np.asarray(rows, dtype=np.float64), t, math.nan, axis=1)
        return self.net().posterior((t,), self._evidence(rows, (t,))[0]).cpu().numpy()

    @has_target
    def predict(self, X: RowsLike) -> np.ndarray:
        """The target's most probable value in each row, (n,)."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    # ------------------------------------------------------------------ tables

    def _labels(self, j: int) -> list[Any]:
        """The values behind the codes of column j: the caller's, or what each bin holds."""
        c, bins = self._column(j), self._bins()
        if j in bins.columns().tolist():
            return bins.labels(j) if isinstance(bins, EvenBins) else _in_words(bins.ends(j), c)
        if c.values is not None:
            return list(c.values)
        return list(range(c.low, c.low + int(c.levels or 0)))

    def cpt(self, node: Any) -> pd.DataFrame:
        """p(node | parents): a row for each value of the parents, a column for each of the node."""
        self._check_fitted()
        j, net = self._place(node), self.net()
        theta = net.tables(net.log_theta.exp())[j].reshape(-1, net.cards[j]).cpu()
        columns = pd.Index(self._labels(j), name=self._name(j))
        if not net.parents[j]:
            return pd.DataFrame(theta.numpy(), index=["p"], columns=columns)
        levels, names = (
            [self._labels(p) for p in net.parents[j]],
            [self._name(p) for p in net.parents[j]],
        )
        index = (
            pd.MultiIndex.from_product(levels, names=names)
            if len(names) > 1
            else pd.Index(levels[0], name=names[0])
        )
        return pd.DataFrame(theta.numpy(), index=index, columns=columns)

    def n_parameters(self, free: bool = False) -> int:
        """Entries of all tables, Σ_j q_j r_j.

        ``free``: those that the others do not determine, Σ_j q_j (r_j − 1).
        """
        self._check_fitted()
        group = self.net().group
        return len(group) - (int(group[-1]) + 1 if free else 0)

    def sample_parameters(self, random_state: Any = None) -> BayesNet:
        """A copy whose tables are drawn from their posterior.

        θ_j(· | pa) ~ Dirichlet(α + N_j(pa, ·)), which needs α > 0.
        """
        self._check_fitted()
        if not self.pseudo_count > 0:
            raise ValueError(
                "pseudo_count=0 has no posterior to draw from: fit with pseudo_count=1"
            )
        rng = self._stream(random_state)
        gamma = torch._standard_gamma(self.counts_ + self.pseudo_count, generator=rng).clamp_min(
            1e-300
        )
        net = self.net()
        return self._with_tables(gamma / net.sums(gamma)[net.group])

    def _with_tables(self, theta: Tensor) -> BayesNet:
        """A copy with these tables as they are: one count a row of a table, no pseudo-counts."""
        other = copy.deepcopy(self)
        other.pseudo_count = 0.0
        other.maximise({"counts": theta})
        return other

    # ------------------------------------------------------------------ files of other programs

    def to_bif(self, path: Any) -> None:
        """Write the network in the Bayesian Interchange Format.

        Values become words, bins their limits.
        """
        self._check_fitted()
        net, names = self.net(), [str(self._name(j)) for j in range(self.space_.dim)]
        states = {n: tuple(map(str, self._labels(j))) for j, n in enumerate(names)}
        parents = {n: tuple(names[p] for p in net.parents[j]) for j, n in enumerate(names)}
        tables = dict(zip(names, net.tables(net.log_theta.exp()), strict=True))
        write_bif(BifNetwork("genus", states, parents, tables), path)

    @classmethod
    def from_bif(cls, path: Any) -> BayesNet:
        """The network of a BIF file, its tables as they stand there.

        ``pseudo_count`` is 0, and values are words.
        """
        file = read_bif(path)
        names = list(file.states)
        columns = tuple(
            Column(n, "categorical", len(s), 0, s, "object") for n, s in file.states.items()
        )
        model = cls([(p, n) for n in names for p in file.parents[n]], pseudo_count=0.0)
        model.space_ = Space((len(names),), "table", columns=columns, container="pandas")
        model.__dict__.update(
            n_features_in_=len(names), feature_names_in_=np.asarray(names, dtype=object)
        )
        model.build(model.space_)
        model._connect(model._given_edges())
        flat = []
        for j, n in enumerate(names):  # parents in the order of the columns
            place = [(*file.parents[n], n).index(names[v]) for v in model.net().scope(j)]
            flat.append(file.tables[n].permute(place).reshape(-1))
        model.maximise({"counts": torch.cat(flat).double()})
        return model.eval()

    # ------------------------------------------------------------------ hooks

    def _log_prob(self, x: Tensor) -> LogProb:
        x, bins = x.flatten(1), self._bins()
        codes = bins.encode(x)
        return Exact(self.net().log_joint(codes) + bins.log_density(x, codes))

    def _sample(self, n: int, rng: torch.Generator) -> Tensor:
        codes = torch.full((n, self.space_.dim), -1, device=rng.device)
        codes = self.net().filled(codes, rng)
        return self._bins().decode(codes, self._uniform(rng)).reshape(n, *self.space_.cell_shape)

    def _complete(self, x: Tensor, rng: torch.Generator) -> Tensor:
        codes = self._possible(self._bins().encode(x.flatten(1)))
        filled = (
            self._bins().decode(self.net().filled(codes, rng), self._uniform(rng)).reshape(x.shape)
        )
        return torch.where(torch.isnan(x), filled.to(x.dtype), x)


def _in_words(ends: list[tuple[float, float]], c: Column) -> list[Any]:
    """What was seen in each bin: its one value, or the smallest and the largest."""
    dates = is_calendar(c.dtype)
    if all(low == high for low, high in ends) and not dates:
        return [low if c.kind == "continuous" else int(low) + c.low for low, _ in ends]
    for digits in range(4, 18):
        words = []
        for pair in ends:
            said = [_in_word(value, c, digits) for value in pair]
            words.append(said[0] if pair[0] == pair[1] else " … ".join(said))
        if len(set(words)) == len(words):
            break
    return words


def _in_word(code: float, c: Column, digits: int) -> str:
    """The value of a code of numbers."""
    if is_calendar(c.dtype):
        return str(series_of(np.array([code]), c).iloc[0]).removesuffix(" 00:00:00")
    return f"{code:.{digits}g}" if c.kind == "continuous" else str(int(code) + c.low)
