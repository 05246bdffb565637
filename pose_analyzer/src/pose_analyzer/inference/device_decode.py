"""From the raw output of a YOLO pose network to people, on the device, with fixed shapes.

Nothing here looks at a value on the host, so all of it can be recorded in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pose_analyzer.inference.decode import NMS_IOU
from pose_analyzer.inference.device_letterbox import has_triton
from pose_analyzer.skeleton import N_COCO

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ROW: Final = 5 + 3 * N_COCO
"""Values of a person: x1, y1, x2, y2, score, then x, y, confidence of each keypoint."""
_ROUNDS: Final = 12
"""Rounds of suppression. Each settles one more link of a chain in which every box overlaps only
the next, and the boxes of one person settle in two (chosen by us). The kernel needs none."""


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """What is kept.

    Attributes
    ----------
    confidence : float
        People at or below it are left out.
    iou : float
        Overlap of boxes above which the less sure one goes.
    n_candidates : int
        Boxes that enter the overlap test, best first: some 20 of one person (chosen by us). The
        fused kernel for CUDA takes all.
    n_people : int
        Most people of a picture (chosen by us).
    """

    confidence: float = 0.25
    iou: float = NMS_IOU
    n_candidates: int = 512
    n_people: int = 64


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of all grids of a network's input, finest grid first.

    Attributes
    ----------
    centres : float32 tensor, shape (N, 2)
        x and y of their middles, in cells.
    strides : float32 tensor, shape (N, 1)
        Pixels of a cell.
    """

    centres: Tensor
    strides: Tensor

    @classmethod
    def of_input(
        cls, height: int, width: int, strides: Sequence[int], device: torch.device
    ) -> Cells:
        """Return the cells of an input of ``height`` x ``width`` pixels."""
        import torch

        centres, sizes = [], []
        for stride in strides:
            y, x = torch.meshgrid(
                torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
            )
            grid = torch.stack([x.flatten(), y.flatten()], dim=1).float() + 0.5
            centres.append(grid)
            sizes.append(torch.full((len(grid), 1), float(stride)))
        return cls(torch.cat(centres).to(device), torch.cat(sizes).to(device))


def decode_on_device(
    boxes: Tensor, scores: Tensor, keypoints: Tensor, cells: Cells, config: DecodeConfig
) -> Tensor:
    """Return the people of each picture, best first, from what the last convolutions give.

    Parameters
    ----------
    boxes : tensor, shape (B, 64, N)
        Logits of the distances to the left, top, right and bottom side.
    scores : tensor, shape (B, classes, N)
        Logits.
    keypoints : tensor, shape (B, 51, N)
        x, y, logit of the confidence.
    cells : Cells
        Of the input.
    config : DecodeConfig
        What is kept.

    Returns
    -------
    float32 tensor, shape (B, n_people, 56)
        `ROW`, in pixels of the input; rows of nobody have score 0 and stand last.

    References
    ----------
    .. [1] X. Li et al., "Generalized Focal Loss", NeurIPS 2020: a side as a distribution.
    .. [2] D. Maji et al., "YOLO-Pose", CVPR Workshops 2022: keypoints from the cell of a box.
    """
    if boxes.is_cuda and has_triton():
        from pose_analyzer.inference.people_kernel import launch

        return launch(boxes, scores, keypoints, cells, config)
    return decode_plainly(boxes, scores, keypoints, cells, config)


def decode_plainly(
    boxes: Tensor, scores: Tensor, keypoints: Tensor, cells: Cells, config: DecodeConfig
) -> Tensor:
    """Do the work of `decode_on_device` with PyTorch's own operations."""
    import torch

    n_cells = boxes.shape[2]
    n_candidates = min(config.n_candidates, n_cells)
    logits, places = scores.amax(dim=1).float().topk(n_candidates, dim=1)
    candidates = _boxes(_pick(boxes, places), cells, places)
    confidence = logits.sigmoid()
    is_kept = _suppress(candidates, confidence > config.confidence, config.iou)
    n_people = min(config.n_people, n_candidates)
    best, order = torch.where(is_kept, confidence, 0.0).topk(n_people, dim=1)
    places = places.gather(1, order)
    people = candidates.gather(1, order[..., None].expand(-1, -1, 4))
    points = _keypoints(_pick(keypoints, places), cells, places)
    rows = torch.cat([people, best[..., None], points], dim=2)
    # A small input has fewer cells than there is room for people.
    return torch.nn.functional.pad(rows, (0, 0, 0, config.n_people - n_people))


def _pick(values: Tensor, places: Tensor) -> Tensor:
    """Return the columns at some places in full precision, (B, C, N), (B, K) -> (B, K, C)."""
    index = places[:, None, :].expand(-1, values.shape[1], -1)
    return values.gather(2, index).transpose(1, 2).float().contiguous()


def _boxes(logits: Tensor, cells: Cells, places: Tensor) -> Tensor:
    """Return corners in pixels, (B, K, 64) -> (B, K, 4)."""
    import torch

    shares = logits.view(*logits.shape[:2], 4, -1).softmax(dim=3)
    sides = (shares * torch.arange(shares.shape[3], device=shares.device)).sum(dim=3)
    centres = cells.centres[places]
    corners = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=2)
    return corners * cells.strides[places]


def _keypoints(raw: Tensor, cells: Cells, places: Tensor) -> Tensor:
    """Return x, y in pixels and confidence, (B, M, 51) -> (B, M, 51)."""
    import torch

    points = raw.view(*raw.shape[:2], N_COCO, 3)
    corner = (cells.centres[places] - 0.5)[:, :, None, :]
    xy = (points[..., :2] * 2.0 + corner) * cells.strides[places][:, :, None, :]
    return torch.cat([xy, points[..., 2:].sigmoid()], dim=3).flatten(2)


def _suppress(boxes: Tensor, is_valid: Tensor, iou: float) -> Tensor:
    """Return which boxes, best first, no kept better one overlaps, (B, K, 4), (B, K) -> (B, K).

    All boxes start as kept. In each round a box is kept if no box that was kept before overlaps
    it; the first i + 1 are right after i rounds, and mostly all of them after two or three.
    """
    import torch

    overlaps = (_iou(boxes) > iou).triu(diagonal=1)
    # A product of matrices counts the kept boxes that overlap each; it is one launch a round.
    overlaps = overlaps.to(torch.float16 if boxes.is_cuda else torch.float32)
    is_kept = is_valid
    for _ in range(_ROUNDS):
        n_better = is_kept[:, None, :].to(overlaps.dtype) @ overlaps
        is_kept = is_valid & (n_better[:, 0] == 0.0)
    return is_kept


def _iou(boxes: Tensor) -> Tensor:
    """Return intersection over union of all pairs, (B, K, 4) -> (B, K, K); 0 without a union."""
    import torch

    top_left = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    bottom_right = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    intersection = (bottom_right - top_left).clamp_min(0.0).prod(dim=3)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=2)
    union = area[:, :, None] + area[:, None, :] - intersection
    return torch.where(union > 0.0, intersection / union, 0.0)
