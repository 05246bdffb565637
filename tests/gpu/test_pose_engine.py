"""The batched engine on a GPU: the same people as on the CPU, graphs, streams, and no memory."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from pose_analyzer.inference import network_runner
from pose_analyzer.inference.device_decode import (
    Cells,
    DecodeConfig,
    decode_on_device,
    decode_plainly,
)
from pose_analyzer.inference.device_letterbox import (
    has_triton,
    layout,
    letterbox_batch,
    pack,
    packing_for,
)
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.fused_activation import BiasActivation
from pose_analyzer.inference.network_precision import Precision
from pose_analyzer.inference.pose_network import PoseNetwork, untrained_network
from pose_analyzer.inference.preprocess import Letterbox, network_input
from pose_analyzer.types import Frame, ImageArray, PoseDetections

FAINT = DecodeConfig(confidence=1e-6, n_people=20)
"""Untrained weights see people everywhere, with small scores."""


def engine_on(device: str, config: EngineConfig) -> PoseEngine:
    return PoseEngine(lively_network(), device, config)


def lively_network() -> PoseNetwork:
    """Return a network whose layers all vary by about 1, as those of a trained one do.

    As made, activations fade from layer to layer until all cells are equally sure.
    """
    torch.manual_seed(5)
    network = untrained_network()

    def enliven(layer: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        assert isinstance(layer, torch.nn.Conv2d)
        bias = torch.zeros(()) if layer.bias is None else layer.bias[:, None, None]
        spread = (output - bias).std()
        layer.weight.div_(spread)
        return (output - bias) / spread + bias

    layers = [part for part in network.module.modules() if isinstance(part, torch.nn.Conv2d)]
    hooks = [layer.register_forward_hook(enliven) for layer in layers]
    with torch.no_grad():
        network(torch.nn.functional.interpolate(torch.rand(1, 3, 24, 40), (384, 640)))
    for hook in hooks:
        hook.remove()
    return network


@pytest.fixture(scope="module")
def images() -> list[ImageArray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 34, 60, 3), dtype=np.uint8)
    sizes = [(1920, 1080), (1280, 720), (1920, 1080), (640, 360), (960, 540)]
    return [
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        for image, size in zip(coarse, sizes, strict=True)
    ]


@pytest.fixture(scope="module")
def frames(images: list[ImageArray]) -> list[Frame]:
    return [Frame(image, index / 30.0, index) for index, image in enumerate(images)]


@pytest.fixture(scope="module")
def engine() -> Iterator[PoseEngine]:
    engine = engine_on("cuda", EngineConfig(precision="fp32", max_batch=8, decode=FAINT))
    yield engine
    engine.close()


def assert_same(
    one: list[PoseDetections], other: list[PoseDetections], px: float, share: float
) -> None:
    """Hold the surest people of each frame to a distance and to a relative score."""
    for here, there in zip(one, other, strict=True):
        np.testing.assert_allclose(here.box_confidence[:3], there.box_confidence[:3], rtol=share)
        np.testing.assert_allclose(here.boxes[0], there.boxes[0], atol=px)
        np.testing.assert_allclose(here.keypoints[0], there.keypoints[0], atol=px)


def test_fp32_gives_the_people_of_the_cpu(engine: PoseEngine, frames: list[Frame]) -> None:
    on_cpu = engine_on("cpu", EngineConfig(decode=FAINT))
    assert_same(engine.infer(frames), on_cpu.infer(frames), px=0.5, share=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_rounded_numbers_give_nearly_the_people_of_fp32(
    engine: PoseEngine, frames: list[Frame], precision: Precision
) -> None:
    config = EngineConfig(precision=precision, max_batch=8, decode=FAINT)
    rounded = engine_on("cuda", config)
    for here, there in zip(rounded.infer(frames), engine.infer(frames), strict=True):
        np.testing.assert_allclose(here.box_confidence[:3], there.box_confidence[:3], rtol=0.03)
    rounded.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("is_widened", [False, True])
def test_the_fused_activation_is_that_of_the_cpu(dtype: torch.dtype, *, is_widened: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    values, bias = torch.randn((3, 51, 12, 20), generator=generator), torch.randn(51)
    values = values.to(dtype).contiguous(memory_format=torch.channels_last)
    steps = [BiasActivation(bias.to(device), is_silu=True) for device in ("cpu", "cuda")]
    for step in steps:
        step.is_widened = is_widened
    expected, found = steps[0](values), steps[1](values.cuda())
    assert found.dtype == (torch.float32 if is_widened else dtype)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-6, rtol=1e-3)


def test_a_batch_equals_its_frames(engine: PoseEngine, frames: list[Frame]) -> None:
    singly = [engine.infer([frame])[0] for frame in frames]
    assert_same(engine.infer(frames), singly, px=0.5, share=1e-3)


def test_two_batches_under_way_do_not_touch_each_other(
    engine: PoseEngine, images: list[ImageArray]
) -> None:
    alone = [engine.collect(engine.submit([image])) for image in images]
    for _ in range(10):
        before = engine.submit(images[:1])
        for expected, image in zip(alone, images[1:], strict=False):
            after = engine.submit([image])
            assert_same(engine.collect(before), expected, px=0.0, share=0.0)
            before = after
        engine.collect(before)


def test_stages_are_timed_by_the_gpu(engine: PoseEngine, frames: list[Frame]) -> None:
    told: dict[str, float] = {}
    engine.on_stage = told.__setitem__
    engine.infer(frames)
    engine.on_stage = None
    assert set(told) == {"preprocess", "infer", "postprocess"}
    assert all(0.0 < seconds < 1.0 for seconds in told.values())


def test_pictures_on_the_gpu_give_what_the_same_on_the_host_do(
    engine: PoseEngine, images: list[ImageArray]
) -> None:
    on_gpu = [
        torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).cuda()
        for image in images
    ]
    host = engine.collect(engine.submit(images))
    assert_same(engine.collect(engine.submit(on_gpu)), host, px=0.0, share=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernel_equals_opencv(images: list[ImageArray], dtype: torch.dtype) -> None:
    if not has_triton():
        pytest.skip("needs Triton")
    boxes = [Letterbox.fit(image.shape, 640, 640) for image in images]
    packings = [packing_for(box) for box in boxes]
    starts = np.cumsum([0, *(packing.n_bytes for packing in packings)]).tolist()
    flat = np.zeros(starts[-1], dtype=np.uint8)
    for image, packing, start in zip(images, packings, starts, strict=False):
        pack(image, packing, flat[start : start + packing.n_bytes])
    layouts = [layout(*each) for each in zip(boxes, packings, starts, strict=False)]
    out = torch.empty((len(images), 3, 640, 640), dtype=dtype, device="cuda")
    out = out.contiguous(memory_format=torch.channels_last)
    numbers = torch.tensor(layouts, dtype=torch.int32, device="cuda")
    letterbox_batch(torch.from_numpy(flat).cuda(), layouts, numbers, out)
    grey_levels = np.abs(out.float().cpu().numpy() - network_input(images, boxes)) * 255.0
    assert grey_levels.max() < 1.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("size", [(64, 96), (384, 640), (640, 640)])
def test_the_kernels_find_the_people_of_pytorchs_operations(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    if not has_triton():
        pytest.skip("needs Triton")
    cells = Cells.of_input(*size, (8, 16, 32), torch.device("cuda"))
    generator = torch.Generator("cuda").manual_seed(3)
    boxes, scores, keypoints = (
        torch.randn((5, n_rows, len(cells.strides)), generator=generator, device="cuda")
        for n_rows in (64, 1, 51)
    )
    # Some forty cells of a picture are sure enough; in FP16 they would tie.
    scores -= 1.2 * len(cells.strides) ** 0.125
    boxes, keypoints = (4.0 * boxes).to(dtype), keypoints.to(dtype)
    scores[2] -= 50.0
    config = DecodeConfig(n_candidates=1024, n_people=20)
    expected = decode_plainly(boxes, scores, keypoints, cells, config)
    found = decode_on_device(boxes, scores, keypoints, cells, config)
    is_somebody = expected[..., 4] > 0.0
    assert is_somebody.any()
    assert not is_somebody[2].any()
    assert torch.equal(is_somebody, found[..., 4] > 0.0)
    torch.testing.assert_close(found[is_somebody], expected[is_somebody], atol=1e-3, rtol=1e-4)


def test_real_lack_of_memory_shrinks_the_batch_and_answers_every_frame(
    images: list[ImageArray],
) -> None:
    engine = engine_on("cuda", EngineConfig(decode=FAINT))
    frames = [Frame(images[0], index / 30.0, index) for index in range(32)]
    (expected,) = engine.infer(frames[:1])
    engine.infer(frames[:4])
    torch.cuda.empty_cache()
    # What four took goes when memory is short; the input of 32 alone takes 94 MiB.
    limit = torch.cuda.memory_reserved() + (64 << 20)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        found = engine.infer(frames)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(found) == 32
    assert engine.n_out_of_memory >= 1
    assert engine.max_batch < 32
    for people in found:
        np.testing.assert_allclose(people.box_confidence[0], expected.box_confidence[0], rtol=0.03)
    engine.close()


def test_without_memory_for_a_graph_single_pictures_are_calculated_step_by_step(
    engine: PoseEngine, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine.infer(frames)
    monkeypatch.setattr(network_runner, "has_room", lambda *_: False)
    config = EngineConfig(precision="fp32", max_batch=4, decode=FAINT)
    without = engine_on("cuda", config)
    assert_same(without.infer(frames), expected, px=0.5, share=1e-3)
    assert (without.n_out_of_memory, without.max_batch) == (2, 1)
    without.close()
