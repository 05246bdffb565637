"""The fused letterbox for CUDA: one launch for a batch of pictures of any sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import triton
import triton.language as tl

from pose_analyzer.inference.preprocess import PADDING_GREY

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK: Final = 256
"""Pixels of one program (chosen by us, see reports/gpu_pose_engine.md)."""


def launch(packed: Tensor, layouts: Tensor, out: Tensor) -> None:
    """Write packed pictures into ``out`` on the current stream; see `letterbox_batch`.

    Parameters
    ----------
    packed : uint8 tensor, shape (bytes,)
    layouts : int32 tensor, shape (>= B, 8)
    out : tensor, shape (B, 3, H, W)
        With the channels last in memory.
    """
    n_pictures, _, height, width = out.shape
    grid = (n_pictures * height, triton.cdiv(width, _BLOCK))
    _letterbox[grid](packed, layouts, out, height, width, GREY=PADDING_GREY, BLOCK=_BLOCK)


@triton.jit  # type: ignore[untyped-decorator]
def _letterbox(  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0917 - a kernel takes no objects
    packed,
    layouts,
    out,
    height,
    width,
    GREY: tl.constexpr,  # noqa: N803 - Triton writes its constants so
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Write up to BLOCK pixels of one line of one picture."""
    line = tl.program_id(0)
    picture = line // height
    numbers = layouts + picture * 8
    offset = tl.load(numbers)
    source_width = tl.load(numbers + 1)
    source_height = tl.load(numbers + 2)
    inner_width = tl.load(numbers + 3)
    inner_height = tl.load(numbers + 4)
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inner_x = x - tl.load(numbers + 5)
    inner_y = line % height - tl.load(numbers + 6)
    lines_each = tl.load(numbers + 7)

    y_numerator = tl.maximum((2 * inner_y + 1) * source_height - inner_height, 0)
    upper = y_numerator // (2 * inner_height)
    down = (y_numerator - upper * 2 * inner_height).to(tl.float32) / (2 * inner_height)
    lower = tl.minimum(upper + 1, source_height - 1)
    if lines_each > 0:
        upper = inner_y * lines_each
        lower = upper + lines_each - 1

    x_numerator = tl.maximum((2 * inner_x + 1) * source_width - inner_width, 0)
    before = x_numerator // (2 * inner_width)
    across = (x_numerator - before * 2 * inner_width).to(tl.float32) / (2 * inner_width)
    after = tl.minimum(before + 1, source_width - 1)

    is_inside = (inner_x >= 0) & (inner_x < inner_width) & (inner_y >= 0) & (inner_y < inner_height)
    above = packed + offset + upper * source_width * 3
    below = packed + offset + lower * source_width * 3
    target = out + (line * width + x) * 3
    for channel in tl.static_range(3):
        a = tl.load(above + before * 3 + channel, mask=is_inside, other=0).to(tl.float32)
        b = tl.load(above + after * 3 + channel, mask=is_inside, other=0).to(tl.float32)
        c = tl.load(below + before * 3 + channel, mask=is_inside, other=0).to(tl.float32)
        d = tl.load(below + after * 3 + channel, mask=is_inside, other=0).to(tl.float32)
        upper_value = a + (b - a) * across
        lower_value = c + (d - c) * across
        value = tl.floor(upper_value + (lower_value - upper_value) * down + 0.5)
        value = tl.where(is_inside, value, GREY) / 255.0
        tl.store(target + 2 - channel, value.to(out.dtype.element_ty), mask=x < width)
