from __future__ import annotations

import csv
import gzip
import importlib.resources

import numpy as np
import pytest
import torch

from gpu_optimizer import recorded_convolutions
from gpu_optimizer.convolution_layer import ConvolutionLayer
from gpu_optimizer.recorded_convolutions import (
    Floats,
    _Sizes as Sizes,
    _Table as Table,
    find_recorded,
)

KINDS = {"3x3": (3, 1, False), "3x3/2": (3, 2, False), "1x1/2": (1, 2, False), "2x2t": (2, 2, True)}
MIB = 2**20


def layer(kind: str, batch: int, before: int, after: int, side: int,
          dtype: torch.dtype = torch.float32, groups: int = 1) -> ConvolutionLayer:  # fmt: skip
    n_side, stride, is_transposed = KINDS[kind]
    side_after = side * stride if is_transposed else -(-side // stride)
    pair = (before, after) if is_transposed else (after, before // groups)
    return ConvolutionLayer(
        torch.empty(batch, before, side, side, dtype=dtype, device="meta"),
        torch.empty(*pair, n_side, n_side, dtype=dtype, device="meta"),
        (stride, stride),
        groups,
        is_transposed,
        batch * after * side_after**2,
    )


def rows() -> list[dict[str, str]]:
    packed = importlib.resources.files("gpu_optimizer") / "recorded/convolutions.csv.gz"
    return list(csv.DictReader(gzip.decompress(packed.read_bytes()).decode().splitlines()))


def drawn(n: int) -> list[dict[str, str]]:
    every = rows()
    return [every[index] for index in np.random.default_rng(3).choice(len(every), n)]


@pytest.mark.parametrize("row", drawn(60), ids=str)
def test_a_recorded_convolution_takes_what_was_recorded(row: dict[str, str]) -> None:
    batch, before, after, side = (int(row[n]) for n in ("batch", "before", "after", "side"))
    dtype = getattr(torch, row["dtype"])
    found = find_recorded(layer(row["kind"], batch, before, after, side, dtype))
    assert found is not None
    taken = [found.forward, found.input_gradient, found.weight_gradient]
    recorded = [int(row[name]) for name in ("forward", "input_gradient", "weight_gradient")]
    assert taken == pytest.approx(recorded, abs=MIB + 0.021 * max(recorded))


def test_what_is_copied_grows_with_a_similar_convolution() -> None:
    # Recorded with 12 and 24 pictures in float16: copies of both pictures and of the weight.
    found = find_recorded(layer("3x3", 16, 128, 128, 28, torch.float16))
    assert found is not None
    assert found.forward == 2 * (2 * 16 * 128 * 28**2 + 9 * 128**2) + 16


def test_bfloat16_is_told_by_float16() -> None:
    half, brain = (
        find_recorded(layer("3x3", 16, 64, 64, 56, dtype))
        for dtype in (torch.float16, torch.bfloat16)
    )
    assert half == brain is not None


@pytest.mark.parametrize(
    "unlike",
    [
        layer("3x3", 4, 64, 64, 56, groups=4),
        layer("3x3", 4, 51, 51, 40),
        layer("3x3", 4, 128, 16, 40),
        layer("3x3", 4, 4096, 4096, 14),
        layer("3x3", 4, 64, 64, 2048),
        layer("3x3", 4, 64, 64, 56, torch.float64),
        layer("1x1/2", 1, 3, 64, 224),
        layer("3x3", 0, 64, 64, 56),
    ],
    ids=lambda item: str(tuple(item.image.shape)),
)
def test_nothing_is_told_of_what_is_like_no_recorded_one(unlike: ConvolutionLayer) -> None:
    assert find_recorded(unlike) is None


def test_left_out_convolutions_are_told_by_their_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = recorded_convolutions._tables()
    errors: list[float] = []
    for row in drawn(120):
        batch, before, after, side = (int(row[n]) for n in ("batch", "before", "after", "side"))
        asked = layer(row["kind"], batch, before, after, side, getattr(torch, row["dtype"]))
        own = np.log2([batch, side**2, before, after])
        others = {group: without(table, own) for group, table in tables.items()}
        monkeypatch.setattr(recorded_convolutions, "_tables", lambda others=others: others)
        found = find_recorded(asked)
        if found is None:
            continue
        told = np.array([found.forward, found.input_gradient, found.weight_gradient])
        true = np.array([int(row[n]) for n in ("forward", "input_gradient", "weight_gradient")])
        errors += (np.abs(told - true) / max(asked.copies, *true)).tolist()
    assert len(errors) > 300
    assert np.mean(errors) < 0.1
    assert np.mean(np.array(errors) < 0.03) > 0.75


def without(table: Table, features: Floats) -> Table:
    kept = np.abs(table.features - features).max(axis=1) > 0
    sizes = table.sizes
    return Table(
        table.features[kept],
        table.taken[kept],
        Sizes(sizes.image[kept], sizes.out[kept], sizes.copies[kept], sizes.part[kept]),
    )
