"""Records what cuDNN's convolutions take besides their outputs, for many shapes.

    python scripts/gpu_record_convolutions.py --out FOLDER [--seconds N]

Draws shapes without replacement, in an order of their own, until the time is up: kernels of 3 x 3
with and without stride, of one pixel with stride, and transposed ones of 2 x 2, in float32 (with
TF32, PyTorch's default) and float16. ``FOLDER/convolutions.csv`` has a line for each: the bytes
that the forward pass and both gradients ask for and give back. No batch is one on which forecasts
of convolving models are judged (`predictor_cases.CASES`).

The file that ships was recorded when the bytes given were counted: up to 1 MiB more, where the
allocator did not split a block.

It is kept as ``gpu_optimizer/src/gpu_optimizer/recorded/convolutions.csv.gz`` (``gzip -9n``).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch

BATCHES: Final = (2, 4, 12, 24, 40, 96)
SIDES: Final = (7, 10, 14, 20, 28, 32, 40, 56, 64, 80, 112, 128, 160)
CHANNELS: Final = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
KINDS: Final = {"3x3": (3, 1, 1), "3x3/2": (3, 2, 1), "1x1/2": (1, 2, 0), "2x2t": (2, 2, 0)}
"""Pixels of the kernel's side, stride and padding."""
DTYPES: Final = {"float32": torch.float32, "float16": torch.float16}
_MAX_ELEMENTS: Final = 2**27
_PIXELS: Final = (1_000, 800_000)
_BLOCK_BYTES: Final = 512
_N_WORKERS: Final = 4


class Shape(NamedTuple):
    """A convolution."""

    dtype: str
    kind: str
    batch: int
    before: int
    after: int
    side: int


def main(argv: Sequence[str] | None = None) -> int:
    """Record in a few processes at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA device is here; run it on a machine with one", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    if args.lane is not None:
        write(shapes()[args.lane :: _N_WORKERS], args.out / f"lane{args.lane}.csv", args.seconds)
        return 0
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(args.out)]
    lanes = [
        subprocess.Popen([*command, "--seconds", str(args.seconds), "--lane", str(lane)])  # noqa: S603 - this script
        for lane in range(_N_WORKERS)
    ]
    is_done = [lane.wait() == 0 for lane in lanes]
    files = sorted(args.out.glob("lane*.csv"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    header = [*Shape._fields, "forward", "input_gradient", "weight_gradient"]
    text = "\n".join([",".join(header), *sorted(lines)]) + "\n"
    (args.out / "convolutions.csv").write_text(text, encoding="utf-8")
    for file in files:
        file.unlink()
    print(f"{len(lines)} convolutions of {len(shapes())}")
    return 0 if all(is_done) else 1


def shapes() -> list[Shape]:
    """Return all shapes, in an order drawn once."""
    found = [
        Shape(dtype, kind, batch, before, after, side)
        for dtype, kind, batch, before, after, side in itertools.product(
            DTYPES, KINDS, BATCHES, CHANNELS, CHANNELS, SIDES
        )
        if max(before, after) <= 2 * min(before, after)
        and _PIXELS[0] <= batch * side**2 <= _PIXELS[1]
        and batch * side**2 * max(before, after) <= _MAX_ELEMENTS
    ]
    random.Random(0).shuffle(found)  # noqa: S311 - no secret
    return found


def write(drawn: Iterable[Shape], file: Path, seconds: float) -> None:
    """Record shapes until the time is up."""
    end_s = time.monotonic() + seconds
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow([*Shape._fields, "forward", "input_gradient", "weight_gradient"])
        for shape in drawn:
            if time.monotonic() > end_s:
                return
            writer.writerow([*shape, *workspaces(shape)])


def workspaces(shape: Shape) -> tuple[int, int, int]:
    """Return the bytes that the forward pass and the gradients of input and weight take."""
    n_side, stride, padding = KINDS[shape.kind]
    is_transposed = shape.kind.endswith("t")
    dtype = DTYPES[shape.dtype]
    pair = (shape.before, shape.after) if is_transposed else (shape.after, shape.before)
    image = torch.zeros(shape.batch, shape.before, shape.side, shape.side, dtype=dtype).cuda()
    weight = torch.zeros(*pair, n_side, n_side, dtype=dtype).cuda()
    how = ([stride] * 2, [padding] * 2, [1, 1], is_transposed, [0, 0], 1)
    made: list[torch.Tensor] = []
    forward = _taken(lambda: made.append(torch.ops.aten.convolution(image, weight, None, *how)))
    gradient = made[0]
    sizes = []
    for mask in ((True, False, False), (False, True, False)):
        outputs: list[torch.Tensor] = []

        def backward(mask: tuple[bool, ...] = mask, outputs: list[torch.Tensor] = outputs) -> None:
            found = torch.ops.aten.convolution_backward(gradient, image, weight, None, *how, mask)
            outputs.extend(item for item in found if item is not None)

        sizes.append(_taken(backward))
    return forward, sizes[0], sizes[1]


def _taken(call: Callable[[], None]) -> int:
    """Return what a call asked for at its peak besides what it left."""
    torch.cuda.reset_peak_memory_stats()
    call()
    stats = torch.cuda.memory_stats()
    return int(stats["requested_bytes.all.peak"] - stats["requested_bytes.all.current"])


if __name__ == "__main__":
    raise SystemExit(main())
