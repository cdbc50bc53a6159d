"""Figures of the gap against sums written out."""

import itertools
import math
import statistics

import pytest
import torch

from pgt.analysis.truncation import Gap

NAMES = ["s1.a.weight", "s1.a.bias", "s2.b.weight"]
SHAPES = [(4, 3), (4,), (5,)]
COUNT = 6


@pytest.fixture
def gradients():
    """Six batches' truncated and full gradients around means of their own."""
    torch.manual_seed(0)
    mean_full = [torch.randn(shape) for shape in SHAPES]
    mean_gap = [0.3 * torch.randn(shape) for shape in SHAPES]
    batches = []
    for _ in range(COUNT):
        full = [m + 0.2 * torch.randn_like(m) for m in mean_full]
        batches.append(([f + g + 0.05 * torch.randn_like(g) for f, g in zip(full, mean_gap, strict=True)], full))
    return batches


def flat(tensors, members):
    return torch.cat([tensors[i].flatten() for i in members]).double()


@pytest.mark.parametrize(("depth", "name", "members"), [(None, "all", [0, 1, 2]), (1, "s1", [0, 1]), (2, "s2.b", [2])])
def test_figures_are_their_definitions(depth, name, members, gradients):
    gap = Gap(NAMES)
    for truncated, full in gradients:
        gap.add(truncated, full)
    row = next(row for row in gap.rows(depth) if row.name == name)
    pairs = [(flat(t, members), flat(f, members)) for t, f in gradients]
    cosines = [float(torch.nn.functional.cosine_similarity(t, f, dim=0)) for t, f in pairs]
    ratios = [float(t.norm() / f.norm()) for t, f in pairs]
    assert row.cosine == pytest.approx(statistics.mean(cosines))
    assert row.cosine_std == pytest.approx(statistics.stdev(cosines))
    assert row.norm_ratio == pytest.approx(statistics.mean(ratios))
    assert row.norm_ratio_std == pytest.approx(statistics.stdev(ratios))
    other = list(itertools.permutations(range(COUNT), 2))
    ff = statistics.mean(float(pairs[i][1] @ pairs[j][1]) for i, j in other)
    dd = statistics.mean(float((pairs[i][0] - pairs[i][1]) @ (pairs[j][0] - pairs[j][1])) for i, j in other)
    noise = statistics.mean(float(f @ f) for _, f in pairs) - ff
    assert row.bias == pytest.approx(math.sqrt(dd / ff), rel=1e-5)
    assert row.noise == pytest.approx(math.sqrt(noise / ff), rel=1e-5)
    floor = statistics.mean(float((t - f) @ (t - f)) for t, f in pairs) / COUNT
    assert row.bias_floor == pytest.approx(math.sqrt(floor / ff), rel=1e-5)


def test_estimates_are_of_the_distribution_and_not_of_the_batches():
    """Add noise alone to the truncated gradient: it has no bias, however few batches show that noise."""
    torch.manual_seed(0)
    gap, direct = Gap(["w"]), []
    mean = torch.ones(200)
    for _ in range(8):
        full = mean + torch.randn(200)
        noise = torch.randn(200)
        gap.add([full + noise], [full])
        direct.append(noise)
    (row, _) = gap.rows(None)
    assert float(torch.stack(direct).mean(dim=0).norm() / mean.norm()) > 0.3
    assert row.bias < row.bias_floor < 0.5
    assert row.noise == pytest.approx(1.0, abs=0.2)


def test_what_cannot_be_said_is_none():
    gap = Gap(["a.w", "b.w"])
    gap.add([torch.zeros(3), torch.ones(2)], [torch.zeros(3), torch.ones(2)])
    rows = {row.name: row for row in gap.rows(1)}
    assert rows["a"].cosine is None and rows["a"].norm_ratio is None
    assert rows["b"].cosine == pytest.approx(1) and rows["b"].cosine_std is None and rows["b"].bias is None
    gap.add([torch.zeros(3), -torch.ones(2)], [torch.zeros(3), -torch.ones(2)])
    # Opposite gradients: nothing is known of their mean.
    assert {row.bias for row in gap.rows(1)} == {None}
