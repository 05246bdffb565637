"""JPEG on a GPU: nvJPEG gives OpenCV's pictures, and garbage harms nobody else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.inference.jpeg import (
    DecodedJpeg,
    GpuJpegDecoder,
    ThreadedJpegDecoder,
    jpeg_decoders,
)
from pose_analyzer.inference.jpeg_head import jpeg_frame
from pose_analyzer.inference.pose_network import untrained_network
from pose_analyzer.types import AnyFrame, Frame, ImageArray, JpegFrame

SIZES = [(1920, 1080), (640, 360), (1280, 720)]


@pytest.fixture(scope="module")
def images() -> list[ImageArray]:
    coarse = np.random.default_rng(0).integers(0, 256, (len(SIZES), 17, 30, 3), dtype=np.uint8)
    return [
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        for image, size in zip(coarse, SIZES, strict=True)
    ]


@pytest.fixture(scope="module")
def files(images: list[ImageArray]) -> list[bytes]:
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in images]


def on_host(found: DecodedJpeg | None) -> ImageArray:
    """Return a picture of the GPU as OpenCV has it."""
    assert found is not None
    assert isinstance(found.picture, torch.Tensor)
    assert found.picture.is_cuda
    return np.asarray(found.picture.cpu().numpy().transpose(1, 2, 0)[..., ::-1])


def test_nvjpeg_gives_opencvs_pictures_and_they_stay_on_the_gpu(
    files: list[bytes], images: list[ImageArray]
) -> None:
    found = GpuJpegDecoder(ThreadedJpegDecoder(threads=1)).decode(files)
    for picture, image in zip(found, images, strict=True):
        # Colours are interpolated in another way; most pixels differ by a level or two.
        assert np.abs(on_host(picture).astype(int) - image).mean() < 3.0


def test_garbage_does_not_keep_the_others_from_the_gpu(files: list[bytes]) -> None:
    batch = [files[0], b"garbage", files[1][:-100], files[2]]
    found = GpuJpegDecoder(ThreadedJpegDecoder(threads=1)).decode(batch)
    assert [picture is None for picture in found] == [False, True, True, False]
    assert on_host(found[3]).shape == (720, 1280, 3)


def test_a_file_that_breaks_within_leaves_the_others_decoded(files: list[bytes]) -> None:
    middle = len(files[0]) // 2
    broken = files[0][:middle] + b"\xff\xc4\x00\x03\xff" + files[0][middle + 5 :]
    found = GpuJpegDecoder(ThreadedJpegDecoder(threads=1)).decode([files[1], broken, files[2]])
    assert found[0] is not None
    assert found[2] is not None


def test_frames_and_jpeg_mix_and_the_choice_of_a_decoder_is_made_once(
    files: list[bytes], images: list[ImageArray]
) -> None:
    engine = PoseEngine(untrained_network(), "cuda", EngineConfig(max_batch=4))
    with TimedDetector("engine", engine) as detector:
        bad = JpegFrame(b"garbage", 0.0, 0, 1, 1)
        mixed: list[AnyFrame] = [jpeg_frame(files[0], 0.0, 0), Frame(images[1], 0.0, 0), bad]
        ready = detector.decode(mixed)
        assert [each is None for each in ready] == [False, False, True]
        assert len(detector.detect([each for each in ready if each is not None])) == 2
        assert detector.jpeg_decoder in {each.name for each in jpeg_decoders(640, "cuda")}
