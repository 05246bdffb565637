"""The arguments of the command ``pose-analyzer``; what is done with them stands in `cli`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

from pose_analyzer.references import FORM_QUALITIES

REFERENCES: Final = Path("data/pose_references")
"""Where references of the user's own are."""


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which detector sees and where it runs."""
    parser.add_argument(
        "--detector",
        default="auto",
        choices=["auto", "mediapipe", "yolo"],
        help="auto takes YOLO where a GPU and its weights are, else MediaPipe",
    )
    parser.add_argument("--weights", help="weights file of the detector (.task, .pt, .onnx, ...)")
    parser.add_argument(
        "--download-weights",
        action="store_true",
        help="fetch YOLO's weights from their publisher if they are not here",
    )
    parser.add_argument("--device", help="where the detector runs: cpu, cuda:0, ...")


def add_analyze(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``analyze``."""
    parser.add_argument("clip", type=Path, help="the video file")
    parser.add_argument(
        "--exercise",
        default="auto",
        help="a name (see `exercises`), your own YAML file, or auto to recognise it",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    add_detector(parser)
    parser.add_argument(
        "--stature", type=_metres, metavar="M", help="the athlete's height in metres, for pose.trc"
    )
    parser.add_argument("--no-video", action="store_true", help="do not write annotated.mp4")
    parser.add_argument("--speak", action="store_true", help="speak the cues in annotated.mp4")
    parser.add_argument(
        "--references",
        type=Path,
        metavar="DIR",
        help="good clips to compare with, made by `references build`; the score stays as it is",
    )
    parser.add_argument(
        "--false-positive-rate",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="of good repetitions of a clip like the references that may be called unlike them; "
        "so many clips does it take from one side: 198 (0.01), 38 (0.05), 8 (0.2)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_synth(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``synth``."""
    parser.add_argument("exercise", help="squat, push_up, deadlift, lunge, ...")
    parser.add_argument("--out", type=Path, required=True, help="the mp4 to write")
    parser.add_argument("--reps", type=int, default=10)
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME:SEVERITY",
        help="a fault, say knee_valgus:0.6; may be given several times",
    )
    parser.add_argument(
        "--yaw",
        type=float,
        metavar="DEG",
        help="camera: 0 front, 90 side; unless given, the side if the faults show from there",
    )
    parser.add_argument("--pitch", type=float, default=0.0, help="camera: degrees downward")
    parser.add_argument("--distance", type=float, default=4.0, help="camera: metres")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--size", type=_size, default=(1920, 1080), metavar="WxH")
    parser.add_argument("--stature", type=_metres, default=1.75, metavar="M")
    parser.add_argument("--people", type=int, default=0, help="bystanders in the background")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--reps", type=int, default=8)
    parser.add_argument("--size", type=_size, default=(1920, 1080), metavar="WxH")
    add_detector(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``references``; ``action`` says which of its two."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="make references of clips of your own")
    build.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="video files")
    build.add_argument(
        "--exercise", required=True, help="a name (see `exercises`) or your own YAML file"
    )
    build.add_argument(
        "--out", type=Path, default=REFERENCES, help="folder of all references (%(default)s)"
    )
    build.add_argument("--quality", default="good", choices=FORM_QUALITIES, help="of their form")
    build.add_argument("--source", default="own recording", help="where the clips come from")
    build.add_argument("--licence", default="not stated", help="what may be done with them")
    add_detector(build)
    build.add_argument("--quiet", action="store_true", help="no progress bar")
    build.set_defaults(action="build")
    told = commands.add_parser("list", help="tell which references there are")
    told.add_argument(
        "folder", type=Path, nargs="?", help=f"{REFERENCES} if it is there, else the package's"
    )
    told.set_defaults(action="list")


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bench``."""
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--streams", type=_count, help="streams at once (default: 4)")
    number.add_argument("--sweep", action="store_true", help="find the most streams that are held")
    parser.add_argument("--fps", type=_rate, default=30.0, help="frames a second of each")
    parser.add_argument("--size", default="1080p", choices=["480p", "720p", "1080p", "4k"])
    parser.add_argument("--seconds", type=_rate, default=30.0, help="measured for each number")
    parser.add_argument(
        "--budget", type=_rate, default=100.0, metavar="MS", help="from capture to result, 99 %%"
    )
    parser.add_argument(
        "--processes",
        type=_whole_or_auto,
        default="auto",
        metavar="N",
        help="analyse in so many other processes (0: in this one; auto, the default: none for up "
        "to 8 streams or a network on the CPU, else one for each 4 streams, at most half of the "
        "cores)",
    )
    parser.add_argument(
        "--jpeg", action="store_true", help="the pictures come as JPEG files, decoded in time"
    )
    parser.add_argument("--clip", type=Path, help="pictures of yours; the synthetic athlete's else")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures here")
    add_detector(parser)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def _whole_or_auto(text: str) -> int | None:
    return None if text == "auto" else _whole(text)


def _rate(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("--weights", help=".pt or .onnx; looked for like those of the detector")
    parser.add_argument("--out", type=Path, required=True, help="folder of the export")
    parser.add_argument("--format", default="openvino", choices=["tensorrt", "openvino", "onnx"])
    parser.add_argument("--precision", default="int8", choices=["fp32", "fp16", "int8"])
    parser.add_argument(
        "--calibrate",
        type=Path,
        nargs="+",
        default=[],
        metavar="CLIP",
        help="your clips, to calibrate and to judge with; the synthetic athlete unless given",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=(640, 640),
        metavar="HxW",
        help="height and width of the input, where the weights leave it open (640x640)",
    )
    parser.add_argument(
        "--accept-loss", action="store_true", help="keep it however much it has lost"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _metres(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value <= 2.6:
        raise argparse.ArgumentTypeError(f"a height in metres from 0.5 to 2.6, got {text!r}")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"a size like 1920x1080, got {text!r}")
    return int(width), int(height)
