"""The clips that the speed reports are measured on."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av

from pose_analyzer.synthetic import ClipSpec, synthesize_clip


def add_clip_argument(parser: argparse.ArgumentParser) -> None:
    """Let a user measure on a clip of their own."""
    parser.add_argument(
        "--clip", type=Path, help="a video to measure on; a 1080p squat set is rendered if absent"
    )


@contextlib.contextmanager
def clip_and_folder(
    clip: Path | None, reps: int, size: tuple[int, int] = (1920, 1080)
) -> Iterator[tuple[Path, Path]]:
    """Give a clip, rendered unless there is one, and a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="pose-speed-") as name:
        folder = Path(name)
        if clip is None:
            clip = folder / "squat.mp4"
            synthesize_clip(ClipSpec("squat", reps=reps, width=size[0], height=size[1]), clip)
        yield clip, folder


def describe(clip: Path) -> str:
    """Return size, length and codec of a clip, and whether we rendered it."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        origin = "rendered by the synthetic athlete" if clip.name == "squat.mp4" else "given"
        return (
            f"{stream.width}x{stream.height}, {stream.frames} frames at {rate:.2f}/s, "
            f"{stream.codec.name}, {origin}"
        )


def repeated(clip: Path, seconds: float, target: Path) -> Path:
    """Write a clip of a given length by repeating another one, without encoding it again."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as sink:
        stream = source.streams.video[0]
        copy = sink.add_stream_from_template(stream)
        if stream.duration is None or stream.time_base is None:
            raise ValueError(f"{clip} does not say how long it is")
        end = round(seconds / stream.time_base)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        for start in range(0, end, stream.duration):
            for packet in packets:
                if packet.pts is None or packet.dts is None or start + packet.pts >= end:
                    continue
                again = av.Packet(bytes(packet))
                again.pts, again.dts = packet.pts + start, packet.dts + start
                again.duration, again.time_base = packet.duration, packet.time_base
                again.is_keyframe = packet.is_keyframe
                again.stream = copy
                sink.mux(again)
    return target
