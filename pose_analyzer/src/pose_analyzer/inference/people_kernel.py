"""Decoding and suppression for CUDA in two launches, however many pictures and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import triton
import triton.language as tl

from pose_analyzer.skeleton import N_COCO

if TYPE_CHECKING:
    from torch import Tensor

    from pose_analyzer.inference.device_decode import Cells, DecodeConfig

_CELLS: Final = 64
"""Cells of one program of the first launch (chosen by us, see reports/gpu_pose_engine.md)."""
_ELEMENTS_OF_WARP: Final = 512
"""Cells that one warp of the second launch keeps in its registers."""
_MOST_WARPS: Final = 16


def launch(
    boxes: Tensor, scores: Tensor, keypoints: Tensor, cells: Cells, config: DecodeConfig
) -> Tensor:
    """Return the people of each picture, as `decode_on_device`, from all cells above the limit.

    The first launch reads the boxes of the cells that are sure enough. In the second, one program
    for each picture takes the surest cell, writes its person, drops the cells that overlap it,
    and goes on until none is left. Of equally sure cells the first is taken.
    """
    n_pictures, n_classes, n_cells = scores.shape
    device = boxes.device
    corners = torch.empty((n_pictures, 4, n_cells), dtype=torch.float32, device=device)
    logits = torch.empty((n_pictures, n_cells), dtype=torch.float32, device=device)
    rows = torch.empty(
        (n_pictures, config.n_people, 5 + 3 * N_COCO), dtype=torch.float32, device=device
    )
    _read_boxes[n_pictures, triton.cdiv(n_cells, _CELLS)](
        boxes,
        scores,
        cells.centres,
        cells.strides,
        corners,
        logits,
        n_cells,
        config.confidence,
        *boxes.stride(),
        *scores.stride(),
        N_CLASSES=n_classes,
        CELLS=_CELLS,
    )
    block = triton.next_power_of_2(n_cells)
    _take_people[n_pictures,](
        corners,
        logits,
        keypoints,
        cells.centres,
        cells.strides,
        rows,
        n_cells,
        config.n_people,
        config.iou,
        *keypoints.stride(),
        POINTS=N_COCO,
        BLOCK=block,
        ROWS=triton.next_power_of_2(config.n_people),
        num_warps=max(1, min(_MOST_WARPS, block // _ELEMENTS_OF_WARP)),
    )
    return rows


@triton.jit  # type: ignore[untyped-decorator]
def _read_boxes(  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0917 - a kernel takes no objects
    boxes,
    scores,
    centres,
    strides,
    corners,
    logits,
    n_cells,
    limit,
    box_picture,
    box_row,
    box_cell,
    score_picture,
    score_row,
    score_cell,
    N_CLASSES: tl.constexpr,  # noqa: N803 - Triton writes its constants so
    CELLS: tl.constexpr,  # noqa: N803
):
    """Write the boxes of the cells above the limit, and the logits; -inf for the others."""
    picture = tl.program_id(0)
    cell = tl.program_id(1) * CELLS + tl.arange(0, CELLS)
    is_cell = cell < n_cells
    score = scores + picture * score_picture + cell * score_cell
    logit = tl.load(score, mask=is_cell, other=-float("inf")).to(tl.float32)
    for kind in range(1, N_CLASSES):
        value = tl.load(score + kind * score_row, mask=is_cell, other=-float("inf"))
        logit = tl.maximum(logit, value.to(tl.float32))
    is_sure = is_cell & (1.0 / (1.0 + tl.exp(-logit)) > limit)
    tl.store(
        logits + picture * n_cells + cell, tl.where(is_sure, logit, -float("inf")), mask=is_cell
    )
    stride = tl.load(strides + cell, mask=is_sure, other=0.0)
    bins = tl.arange(0, 16)
    first = boxes + picture * box_picture + cell[:, None] * box_cell + bins[None, :] * box_row
    target = corners + picture * 4 * n_cells + cell
    for side in tl.static_range(4):
        raw = tl.load(first + side * 16 * box_row, mask=is_sure[:, None], other=0.0).to(tl.float32)
        share = tl.exp(raw - tl.max(raw, axis=1)[:, None])
        length = tl.sum(share * bins[None, :].to(tl.float32), axis=1) / tl.sum(share, axis=1)
        centre = tl.load(centres + 2 * cell + side % 2, mask=is_sure, other=0.0)
        edge = centre - length if side < 2 else centre + length
        tl.store(target + side * n_cells, edge * stride, mask=is_sure)


@triton.jit  # type: ignore[untyped-decorator]
def _take_people(  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0917 - a kernel takes no objects
    corners,
    logits,
    keypoints,
    centres,
    strides,
    rows,
    n_cells,
    n_people,
    iou,
    point_picture,
    point_row,
    point_cell,
    POINTS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
):
    """Write the people of one picture, best first, and score 0 into the rows that are left."""
    picture = tl.program_id(0)
    cell = tl.arange(0, BLOCK)
    left = tl.load(logits + picture * n_cells + cell, mask=cell < n_cells, other=-float("inf"))
    box = corners + picture * 4 * n_cells
    width = 5 + 3 * POINTS
    row = rows + picture * n_people * width
    point = tl.arange(0, 32)
    is_point = point < POINTS
    n_taken = 0
    best = tl.max(left, axis=0)
    while (best > -float("inf")) & (n_taken < n_people):
        chosen = tl.min(tl.where(left == best, cell, BLOCK), axis=0)
        x1 = tl.load(box + chosen)
        y1 = tl.load(box + n_cells + chosen)
        x2 = tl.load(box + 2 * n_cells + chosen)
        y2 = tl.load(box + 3 * n_cells + chosen)
        target = row + n_taken * width
        tl.store(target, x1)
        tl.store(target + 1, y1)
        tl.store(target + 2, x2)
        tl.store(target + 3, y2)
        tl.store(target + 4, 1.0 / (1.0 + tl.exp(-best)))

        stride = tl.load(strides + chosen)
        raw = keypoints + picture * point_picture + chosen * point_cell + 3 * point * point_row
        x = tl.load(raw, mask=is_point, other=0.0).to(tl.float32)
        y = tl.load(raw + point_row, mask=is_point, other=0.0).to(tl.float32)
        trust = tl.load(raw + 2 * point_row, mask=is_point, other=0.0).to(tl.float32)
        x = (x * 2.0 + tl.load(centres + 2 * chosen) - 0.5) * stride
        y = (y * 2.0 + tl.load(centres + 2 * chosen + 1) - 0.5) * stride
        values = target + 5 + 3 * point
        tl.store(values, x, mask=is_point)
        tl.store(values + 1, y, mask=is_point)
        tl.store(values + 2, 1.0 / (1.0 + tl.exp(-trust)), mask=is_point)

        is_left = left > -float("inf")
        other_x1 = tl.load(box + cell, mask=is_left, other=0.0)
        other_y1 = tl.load(box + n_cells + cell, mask=is_left, other=0.0)
        other_x2 = tl.load(box + 2 * n_cells + cell, mask=is_left, other=0.0)
        other_y2 = tl.load(box + 3 * n_cells + cell, mask=is_left, other=0.0)
        both_x = tl.maximum(tl.minimum(x2, other_x2) - tl.maximum(x1, other_x1), 0.0)
        both_y = tl.maximum(tl.minimum(y2, other_y2) - tl.maximum(y1, other_y1), 0.0)
        both = both_x * both_y
        union = (x2 - x1) * (y2 - y1) + (other_x2 - other_x1) * (other_y2 - other_y1) - both
        # Without a union they do not overlap; the chosen one goes always.
        is_gone = ((union > 0.0) & (both > iou * union)) | (cell == chosen)
        left = tl.where(is_gone, -float("inf"), left)
        best = tl.max(left, axis=0)
        n_taken += 1
    rest = tl.arange(0, ROWS)
    tl.store(row + rest * width + 4, 0.0 * rest, mask=(rest >= n_taken) & (rest < n_people))
