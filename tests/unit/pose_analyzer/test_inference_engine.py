"""The engine on a CPU, with a network that sees a person in every bright cell."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from pose_analyzer.errors import DetectorError
from pose_analyzer.inference.detector import StageListener, TimedDetector
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.inference.pose_network import PoseNetwork
from pose_analyzer.skeleton import N_COCO
from pose_analyzer.types import FloatArray, Frame, ImageArray, JpegFrame

STRIDE = 32


class BrightCells(torch.nn.Module):
    """Sees a person in each cell that is nearly white, sized by what the logits say."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        self.shapes.append(tuple(pictures.shape))
        level = torch.nn.functional.avg_pool2d(pictures, STRIDE).mean(dim=1).flatten(1)
        n_pictures, n_cells = level.shape
        sides = torch.zeros(16)
        sides[1] = 50.0  # one cell to each side, all but surely
        trust = torch.zeros(n_pictures, N_COCO, 3, n_cells)
        trust[:, :, 2] = 4.0
        return {
            "boxes": sides.repeat(4)[None, :, None].expand(n_pictures, -1, n_cells),
            "scores": (40.0 * (level - 0.9))[:, None],
            "kpts": trust.flatten(1, 2),
        }


def engine_on(
    config: EngineConfig | None = None, on_batch: Callable[[int], None] | None = None
) -> tuple[PoseEngine, BrightCells]:
    module = BrightCells()
    config = EngineConfig(image_size=320) if config is None else config
    return PoseEngine(PoseNetwork(module, (STRIDE,)), "cpu", config, on_batch=on_batch), module


def frame(column: int, shape: tuple[int, int] = (180, 320), row: int = 2) -> Frame:
    """Return a black frame that is white in one cell of the network's grid; none below 0."""
    image = np.zeros((*shape, 3), dtype=np.uint8)
    if column >= 0:
        scale = shape[1] / 320
        # A picture of 320 x 180 lies 6 lines below the top of an input of 320 x 192.
        top, left = (row * STRIDE - 6) * scale, column * STRIDE * scale
        image[
            round(top) : round(top + STRIDE * scale), round(left) : round(left + STRIDE * scale)
        ] = 255
    return Frame(image, 0.0, 0)


def noses(engine: PoseEngine, frames: list[Frame]) -> list[FloatArray]:
    return [people.keypoints[:, 0] for people in engine.infer(frames)]


FRAMES = [frame(1), frame(-1), frame(4), frame(7), frame(2)]


def test_each_frame_has_its_own_people_in_its_own_pixels() -> None:
    found = engine_on()[0].infer([frame(3), frame(-1), frame(3, (360, 640))])
    assert [people.n_people for people in found] == [1, 0, 1]
    np.testing.assert_allclose(found[0].keypoints[0, 5], [3 * STRIDE, 2 * STRIDE - 6])
    np.testing.assert_allclose(found[2].keypoints[0, 5], [6 * STRIDE, 4 * STRIDE - 12])
    np.testing.assert_allclose(found[0].boxes[0], [80.0, 42.0, 144.0, 106.0], atol=1e-3)


@pytest.mark.parametrize("max_batch", [1, 2, 4, 32])
def test_the_largest_batch_does_not_change_the_result(max_batch: int) -> None:
    config = EngineConfig(image_size=320, max_batch=max_batch)
    engine, module = engine_on(config)
    for one, other in zip(noses(engine, FRAMES), noses(engine_on()[0], FRAMES), strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(shape[0] for shape in module.shapes) <= max_batch


def test_frames_of_one_aspect_share_a_rectangle_and_others_a_square() -> None:
    engine, module = engine_on()
    engine.infer([frame(1), frame(1, (360, 640))])
    engine.infer([frame(1), frame(1, (320, 180))])
    assert module.shapes == [(2, 3, 192, 320), (2, 3, 320, 320)]


def test_the_input_can_be_square_always() -> None:
    engine, module = engine_on(EngineConfig(image_size=320, is_square=True))
    engine.infer([frame(3)])
    assert module.shapes == [(1, 3, 320, 320)]


def test_two_batches_may_be_under_way_and_come_back_in_any_order() -> None:
    engine, _ = engine_on()
    first, second = engine.submit([FRAMES[0].image]), engine.submit([FRAMES[2].image])
    with pytest.raises(RuntimeError, match="collect one first"):
        engine.submit([FRAMES[1].image])
    after, before = engine.collect(second), engine.collect(first)
    assert before[0].keypoints[0, 0, 0] == STRIDE
    assert after[0].keypoints[0, 0, 0] == 4 * STRIDE
    with pytest.raises(ValueError, match="once"):
        engine.collect(first)


def test_results_are_not_overwritten_by_the_next_batch() -> None:
    engine, _ = engine_on()
    (kept,) = engine.infer([frame(1)])
    engine.infer([frame(6)])
    assert kept.keypoints[0, 0, 0] == STRIDE


def test_a_picture_on_the_device_gives_what_the_same_on_the_host_does() -> None:
    engine, _ = engine_on()
    image = np.random.default_rng(1).integers(200, 256, (180, 320, 3), dtype=np.uint8)
    on_device = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    (one,) = engine.collect(engine.submit([image]))
    (other,) = engine.collect(engine.submit([on_device]))
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert one.n_people > 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
    ],
)
def test_what_is_no_picture_is_refused_and_the_engine_goes_on(image: ImageArray) -> None:
    engine, _ = engine_on()
    for _ in range(3):
        with pytest.raises(ValueError, match="uint8"):
            engine.submit([FRAMES[0].image, image])
    assert len(engine.infer(FRAMES)) == len(FRAMES)


def test_more_than_the_largest_batch_is_not_submitted() -> None:
    engine, _ = engine_on(EngineConfig(image_size=320, max_batch=2))
    with pytest.raises(ValueError, match="1 to 2 pictures, got 3"):
        engine.submit([each.image for each in FRAMES[:3]])


def test_a_largest_batch_without_a_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="max_batch"):
        EngineConfig(max_batch=12)


# --- out of memory -------------------------------------------------------------------------------


class Memory:
    """Does for a number of frames at once."""

    def __init__(self, enough_for: int) -> None:
        self.enough_for = enough_for
        self.asked: list[int] = []

    def __call__(self, n_frames: int) -> None:
        self.asked.append(n_frames)
        if n_frames > self.enough_for:
            raise torch.OutOfMemoryError("injected")


def test_without_memory_the_batch_halves_and_the_frames_are_tried_again() -> None:
    memory = Memory(2)
    engine, _ = engine_on(on_batch=memory)
    expected = noses(engine_on()[0], FRAMES[:4])
    for one, other in zip(noses(engine, FRAMES[:4]), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert memory.asked == [4, 2, 2]
    assert (engine.n_out_of_memory, engine.max_batch) == (1, 2)


def test_the_next_frames_come_in_batches_that_fit() -> None:
    memory = Memory(2)
    engine, _ = engine_on(on_batch=memory)
    engine.infer(FRAMES[:4])
    memory.asked.clear()
    assert len(engine.infer(FRAMES)) == 5
    assert memory.asked == [2, 2, 1]
    assert engine.n_out_of_memory == 1


def test_a_batch_halves_until_it_fits() -> None:
    memory = Memory(1)
    engine, _ = engine_on(on_batch=memory)
    expected = noses(engine_on()[0], FRAMES[:4])
    for one, other in zip(noses(engine, FRAMES[:4]), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert memory.asked == [4, 2, 1, 1, 1, 1]
    assert (engine.n_out_of_memory, engine.max_batch) == (2, 1)


def test_without_memory_for_one_frame_the_detector_fails_and_goes_on_later() -> None:
    memory = Memory(0)
    engine, _ = engine_on(on_batch=memory)
    with pytest.raises(DetectorError, match="free some"):
        engine.infer(FRAMES[:2])
    assert memory.asked == [2, 1]
    memory.enough_for = 1
    assert len(engine.infer(FRAMES)) == 5
    assert engine.n_out_of_memory == 2


def test_a_batch_under_way_survives_the_next_one_failing() -> None:
    memory = Memory(2)
    engine, _ = engine_on(on_batch=memory)
    first = engine.submit([FRAMES[0].image])
    second = engine.submit([each.image for each in FRAMES[1:5]])
    assert engine.collect(first)[0].keypoints[0, 0, 0] == STRIDE
    assert [people.n_people for people in engine.collect(second)] == [0, 1, 1, 1]


def test_the_largest_batch_comes_back_after_many_without_trouble() -> None:
    memory = Memory(1)
    engine, _ = engine_on(EngineConfig(image_size=320, max_batch=2, recovery_batches=8), memory)
    engine.infer(FRAMES[:2])
    memory.enough_for = 2
    for _ in range(5):
        engine.infer(FRAMES[:1])
    assert engine.max_batch == 1
    engine.infer(FRAMES[:1])
    assert engine.max_batch == 2


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def fail(_: int) -> None:
        raise RuntimeError("the kernel was wrong")

    engine, _ = engine_on(on_batch=fail)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="the kernel was wrong"):
            engine.infer(FRAMES)
    assert (engine.n_out_of_memory, engine.max_batch) == (0, 32)


# --- behind the detector -------------------------------------------------------------------------


def as_jpeg(frame: Frame) -> JpegFrame:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 100]
    return jpeg_frame(cv2.imencode(".jpg", frame.image, quality)[1].tobytes(), 0.0, 0)


def test_jpeg_and_frames_are_mixed_and_results_are_in_pixels_of_the_jpeg() -> None:
    # The largest is decoded at half its size.
    frames = [frame(3), frame(5, (360, 640)), frame(2), frame(4, (720, 1280)), frame(-1)]
    mixed = [as_jpeg(each) if place % 2 else each for place, each in enumerate(frames)]
    with TimedDetector("bright", engine_on()[0]) as detector:
        assert detector.jpeg_decoder == "threads, half size"
        expected = detector.detect(frames)
        for found, wanted in zip(detector.detect(mixed), expected, strict=True):
            np.testing.assert_allclose(found.keypoints, wanted.keypoints, atol=0.2)
            np.testing.assert_allclose(found.boxes, wanted.boxes, atol=0.2)


def test_what_was_decoded_before_is_detected_without_decoding() -> None:
    with TimedDetector("bright", engine_on()[0]) as detector:
        ready = detector.decode([as_jpeg(frame(3)), as_jpeg(frame(5, (720, 1280)))])
        found = detector.detect([each for each in ready if each is not None])
        assert [people.n_people for people in found] == [1, 1]
        np.testing.assert_allclose(found[0].keypoints[0, 5, 0], 3 * STRIDE, atol=0.2)
        np.testing.assert_allclose(found[1].keypoints[0, 5, 0], 20 * STRIDE, atol=0.8)


def test_a_jpeg_that_is_none_is_named_and_the_detector_goes_on() -> None:
    bad = JpegFrame(b"\xff\xd8 no picture", 0.0, 1, 180, 320)
    with TimedDetector("bright", engine_on()[0]) as detector:
        with pytest.raises(DetectorError, match="frame 1 of the batch"):
            detector.detect([frame(1), bad])
        assert detector.decode([bad]) == [None]
        assert len(detector.detect(FRAMES)) == len(FRAMES)


def test_the_detector_tells_stages_and_largest_batch() -> None:
    told: list[tuple[str, float]] = []
    listener: StageListener = lambda stage, seconds: told.append((stage, seconds))  # noqa: E731
    with TimedDetector("bright", engine_on()[0]) as detector:
        detector.watch_stages(listener)
        detector.detect(FRAMES)
        assert detector.max_batch == 32
        assert detector.stats().device_memory_bytes is None
        detector.watch_stages(None)
        detector.detect(FRAMES)
    assert [stage for stage, _ in told] == ["preprocess", "infer", "postprocess"]
    assert all(0.0 <= seconds < 10.0 for _, seconds in told)


def test_warming_up_prepares_every_batch_size_for_the_frames_to_come() -> None:
    engine, module = engine_on(EngineConfig(image_size=320, max_batch=4))
    engine.warm_up((1080, 1920, 3))
    assert module.shapes == [(1, 3, 192, 320)]
