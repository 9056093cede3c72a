"""Tables of architectures, opened without running them; the same function under many codes; searchers by hand."""

from __future__ import annotations

import io
import itertools
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reprise.parts.data.readers import architecture_tables as tables
from reprise.parts.data.store import Architectures, open_architectures
from reprise.parts.search.codes import Code, Codes, Group, Measured, Space
from reprise.parts.search.controller import Controller, Reinforce
from reprise.parts.search.graph_cells import (
    NODES,
    OPERATIONS,
    OPTIONS,
    code_numbers,
    function_of,
    function_of_key,
    in_words,
)
from reprise.parts.search.searchers import LocalSearch
from reprise.parts.search.table import Table

ROW = {"valid_perf": 0.5, "perf": 0.25, "latency": 0.125, "para": np.float64(1.5)}


def pickled(value: Any, protocol: int = 3) -> bytes:
    """As NumPy 1 would, with which the tables were written."""
    return pickle.dumps(value, protocol).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_unrun(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    harm = pickle.dumps({1: Evil()}, protocol)
    asked = r"posix\.system" if protocol < 4 else "STACK_GLOBAL"
    with pytest.raises(ValueError, match=rf"^cora\.bench: byte \d+: it asks for {asked}; expected nothing but numpy"):
        tables.table(Path("cora.bench"), harm)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system"):
        tables._Numbers(io.BytesIO(harm)).load()  # the second lock, by itself
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no pickle", "byte 0: "),
        (pickled({10000: ROW})[:-9], r"byte \d+: "),
        (pickled([ROW]), "expected a table by architecture, found list"),
        (pickled({"a": ROW}), "architecture 'a': expected latency, para, perf, valid_perf"),
        (pickled({10000: {"perf": 0.5}}), "architecture 10000: expected"),
        (pickled({10000: ROW | {"perf": "high"}}), "architecture 10000: expected numbers"),
        (
            pickled({10000: ROW | {"para": np.float32(1.5)}}),
            r"not a table \(ValueError: a number of type 'f4'; expected f8\)",
        ),
        (
            pickled({10000: ROW | {"para": np.array(1.5)}}),
            r"byte \d+: it asks for numpy\.core\.multiarray\._reconstruct",
        ),
        (b"\x80\x03\x82\x01.", r"byte 2: it asks for EXT1"),
    ],
)
def test_what_is_no_table_is_named(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^cora\.bench: {said}"):
        tables.table(Path("cora.bench"), content)


def test_tables_are_read(tmp_path: Path) -> None:
    """Keys 10000 and 80001: a fork after the first node, and a chain whose last operation is a gcn."""
    for name, first in (("cora", 0.5), ("arxiv", 0.75)):
        rows = {80001: ROW, 10000: ROW | {"valid_perf": first, "para": np.float64(2.5)}}
        (tmp_path / f"{name}.bench").write_bytes(pickled(rows))
    options = tables.Options(tables=["arxiv", "cora"], architectures=2)
    card = tables.read([*tmp_path.glob("*.bench")], tmp_path, options)
    found = open_architectures(tmp_path)
    assert card["tables"] == ["arxiv", "cora"]
    assert found.validation[..., 0].tolist() == [[0.75, 0.5], [0.5, 0.5]]
    assert found.parameters.tolist() == [[2.5, 1.5]] * 2
    chain = np.array([[1, 2, 3, 0, 0, 0, 1]])
    assert found.of_codes[code_numbers(chain)].tolist() == [1]
    with pytest.raises(ValueError, match=r"arxiv\.bench: expected the same 3 architectures as in the others, found 2"):
        tables.read([*tmp_path.glob("*.bench")], tmp_path, tables.Options(tables=["arxiv"], architectures=3))
    with pytest.raises(ValueError, match=r"no file photo\.bench among arxiv\.bench, cora\.bench"):
        tables.read([*tmp_path.glob("*.bench")], tmp_path, tables.Options(tables=["photo"], architectures=2))


def test_cells_of_one_function_are_one() -> None:
    gcn, gin, skip = (OPERATIONS.index(name) for name in ("gcn", "gin", "skip"))
    chain = function_of((0, 1, 2, 3), (gcn, gin, gcn, gin))
    assert chain == ((gcn, ((gin, ((gcn, ((gin, ()),)),)),)),)
    # Two branches of one input, numbered either way.
    assert function_of((0, 0, 1, 2), (gcn, gin, gin, gcn)) == function_of((0, 0, 1, 2), (gin, gcn, gcn, gin))
    # A skip in a chain may stand anywhere. Beside other users of an output it adds that output; the input it does not.
    chains = [function_of((0, 1, 2, 3), one) for one in itertools.permutations((skip, gcn, gin, gcn))]
    assert len({*chains}) == 3
    assert function_of((0, 1, 1, 2), (gcn, gin, skip, gin)) != function_of((0, 1, 1, 2), (gcn, gin, gin, gin))
    assert function_of((0, 0, 0, 0), (gcn, skip, gin, skip)) == ((gcn, ()), (gin, ()))
    assert function_of_key(80001) == function_of((0, 1, 2, 3), (0, 0, 0, 1))
    for key in (90000, 9, -1):
        with pytest.raises(ValueError, match="is no architecture"):
            function_of_key(key)


def test_as_many_functions_as_the_benchmark_trained() -> None:
    """Qin et al. 2022, Section 3.2: 26,206 of them; here beside the cell that does nothing."""
    codes = itertools.product(*map(range, OPTIONS))
    assert len({function_of((0, *code[:3]), code[3:]) for code in codes}) == 26_206 + 1


def test_a_mutation_changes_one_decision_as_often_as_it_should() -> None:
    code = Code(OPTIONS, (Group((0, 1, 2), other=True), Group((3, 4, 5, 6), other=False)), identity=0.05)
    random = np.random.default_rng(0)
    parents = code.drawn(random, 40_000)
    assert [len(np.unique(column)) for column in parents.T] == [*OPTIONS]
    changed = code.mutated(random, parents) != parents
    assert set(changed.sum(1)) == {0, 1}
    # Half of the mutations are of an input, which always becomes another; of the operations one in nine stays.
    assert changed.mean(0)[:3] == pytest.approx(0.95 / 2 / 3, abs=0.01)
    assert changed.mean(0)[3:] == pytest.approx(0.95 / 2 / NODES * 8 / 9, abs=0.01)
    one = code.changed(np.repeat(parents[:1], len(code.changes), 0), code.changes)
    assert len({tuple(neighbour) for neighbour in one} - {tuple(parents[0])}) == sum(OPTIONS) - len(OPTIONS)


class Hills(Space):
    """Two decisions; the accuracy of each code is written down."""

    heights = np.array([[1, 2, 3], [0, 0, 4], [9, 0, 5]]) / 10

    def __init__(self, searches: int = 1) -> None:
        self.code, self.searches = Code((3, 3), (Group((0, 1), other=True),), 0.0), searches

    def measured(self, codes: Codes, random: np.random.Generator) -> Measured:
        found = self.heights[tuple(codes.T.astype(int))]
        return Measured(found, found, found)


def test_local_search_climbs_to_the_best_neighbour_and_begins_anew_at_a_top() -> None:
    space, random = Hills(), np.random.default_rng(0)
    searcher = LocalSearch(space, random)
    seen: list[tuple[int, ...]] = []
    for number in range(60):
        codes = np.array([[0, 0]], np.int8) if number == 0 else searcher.propose()
        seen.append(tuple(codes[0].tolist()))
        searcher.observe(codes, space.measured(codes, random).validation)
    # From (0, 0), 1, the best of its four neighbours is (2, 0), 9, where every neighbour is worse.
    assert {*seen[1:5]} == {(0, 1), (0, 2), (1, 0), (2, 0)}
    assert {*seen[5:9]} == {(2, 1), (2, 2), (0, 0), (1, 0)}
    assert len({*seen[9:]}) > 3


def test_a_table_is_looked_up_by_search_and_chosen_by_validation() -> None:
    of_codes = np.full(np.prod(OPTIONS), -1, np.int32)
    codes = np.array([[0, 0, 0, 0, 0, 0, 0], [1, 2, 3, 8, 8, 8, 7]], np.int8)
    of_codes[code_numbers(codes)] = [0, 1]
    validation = np.array([[[0.1, 0.3], [0.2, 0.2]], [[0.5, 0.5], [0.6, 0.6]]])
    held = Architectures(of_codes, validation, np.array([[0.9, 0.8], [0.7, 0.6]]), np.ones((2, 2)))
    table, random = Table(held, 1, 0.05), np.random.default_rng(0)
    assert table.best.tolist() == pytest.approx([0.2, 0.6])
    measured = [table.measured(codes, random) for _ in range(40)]
    assert {float(one.validation[0]) for one in measured} == {0.1, 0.3}, "one training of several, drawn"
    assert measured[0].test.tolist() == [0.9, 0.6]
    assert not table.is_valid(np.array([[0, 0, 0, 0, 0, 0, 1]], np.int8))[0]


def test_the_controller_is_torchs_lstm() -> None:
    torch.manual_seed(0)
    options, units, layers = (2, 3, 4), 5, 2
    net = Controller(options, 3, units, layers, bound=0.5)
    codes = torch.stack([torch.randint(0, count, (3, 7)) for count in options], 2)
    likelihood, entropy = net(codes)
    for search in range(3):
        lstm = nn.LSTM(units, units, layers, batch_first=True)
        with torch.no_grad():
            for layer in range(layers):
                getattr(lstm, f"weight_ih_l{layer}").copy_(net.inputs[layer][search].T)
                getattr(lstm, f"weight_hh_l{layer}").copy_(net.states[layer][search].T)
                getattr(lstm, f"bias_ih_l{layer}").copy_(net.biases[layer][search, 0])
                getattr(lstm, f"bias_hh_l{layer}").zero_()
        rows = torch.stack([torch.zeros(7).long(), 1 + codes[search, :, 0], 3 + codes[search, :, 1]], 1)
        out, _ = lstm(net.embedding[search][rows])
        log_p = [(out[:, place] @ head[search]).log_softmax(1) for place, head in enumerate(net.heads)]
        expected = torch.stack([one.gather(1, codes[search, :, i, None])[:, 0] for i, one in enumerate(log_p)]).sum(0)
        disorder = torch.stack([-(one.exp() * one).sum(1) for one in log_p]).sum(0)
        torch.testing.assert_close(likelihood[search], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(entropy[search], disorder, atol=1e-5, rtol=0)
    every = torch.tensor([*itertools.product(*map(range, options))]).expand(3, -1, -1)
    assert net(every)[0].exp().sum(1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_draws_follow_the_controllers_probabilities() -> None:
    torch.manual_seed(0)
    net = Controller((2, 3), 1, 4, 1, bound=2.0)
    drawn = net.drawn(np.random.default_rng(0).random((1, 20_000, 2)))[0]
    every = np.array([*itertools.product(range(2), range(3))])
    share = [(drawn == one).all(1).mean() for one in every]
    assert share == pytest.approx(net(torch.from_numpy(every)[None])[0].exp()[0].tolist(), abs=0.015)


def test_reinforce_learns_which_is_best_each_search_for_itself() -> None:
    """What was better than usual becomes likelier, and what one search sees moves no other's weights."""
    torch.manual_seed(0)
    space, random = Hills(searches=2), np.random.default_rng(0)
    net = Controller(space.code.options, 2, 8, 1)
    searcher = Reinforce(space, random, net, batch=5, decay=0.9, entropy=0.0)
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    before = net.embedding[1].clone()
    for _ in range(400):
        codes = searcher.propose()
        seen = space.measured(codes, random).validation * [1, 0]
        if (loss := searcher.observe(codes, seen)) is not None:
            optimizer.zero_grad()
            loss.backward()
            assert net.embedding.grad is not None
            assert not net.embedding.grad[1].any()
            optimizer.step()
    assert net(torch.tensor([[[2, 0]]] * 2))[0].exp()[0].item() > 0.9
    assert torch.equal(net.embedding[1], before)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ((1, 2, 3, 1, 0, 4, 7), "gcn > gat > sage > fc"),
        ((0, 0, 0, 1, 1, 0, 7), "(gat, gcn, gcn, fc)"),
        ((1, 1, 3, 1, 0, 4, 7), "gcn > (gat, sage > fc)"),
        ((1, 2, 3, 8, 8, 2, 8), "gin"),
        ((1, 2, 3, 8, 8, 8, 8), "skip"),
    ],
)
def test_a_cell_in_words_is_its_function(code: tuple[int, ...], words: str) -> None:
    assert in_words(code) == words
