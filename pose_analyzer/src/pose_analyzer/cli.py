"""The command ``pose-analyzer``: analyse a clip, make synthetic ones, see what is installed."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pose_analyzer import __version__
from pose_analyzer.errors import PoseAnalyzerError, ReferencesError, VideoWriteError
from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.references import FORM_QUALITIES, exercises_in, load_clips, shipped_folder

if TYPE_CHECKING:
    from pose_analyzer.clip_analysis import AnalysisResult

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
_REFERENCES: Final = Path("data/pose_references")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for anything the user can mend."""
    args = _parser().parse_args(argv)
    _end_tidily_when_told()
    try:
        return int(args.run(args))
    except (PoseAnalyzerError, ValueError) as exc:
        print(f"pose-analyzer: {exc}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # The reader of a pipe has gone, say `| head`; what it did not want is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("pose-analyzer: stopped; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED


def _end_tidily_when_told() -> None:
    """Let a closed terminal or a `kill` unwind as Ctrl-C does, so that nothing is left behind."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pose-analyzer",
        description="From a video to coached repetitions: pose, angles, reps, score, cues.",
    )
    parser.add_argument("--version", action="version", version=f"pose-analyzer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_analyze(commands.add_parser("analyze", help="analyse a clip and write its reports"))
    _add_synth(commands.add_parser("synth", help="render a synthetic athlete with exact truth"))
    _add_demo(commands.add_parser("demo", help="render a set of squats and analyse it"))
    _add_references(commands.add_parser("references", help="good repetitions to compare with"))
    _add_export(commands.add_parser("export", help="export YOLO weights and measure what it costs"))
    _add_bench(commands.add_parser("bench", help="how many live streams this machine holds"))
    exercises = commands.add_parser("exercises", help="list the exercises that are known")
    exercises.set_defaults(run=_exercises)
    doctor = commands.add_parser("doctor", help="tell what is installed and what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_detector(parser: argparse.ArgumentParser) -> None:
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


def _add_analyze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clip", type=Path, help="the video file")
    parser.add_argument(
        "--exercise",
        default="auto",
        help="a name (see `exercises`), your own YAML file, or auto to recognise it",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    _add_detector(parser)
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
    parser.set_defaults(run=_analyze)


def _add_synth(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=_synth)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--reps", type=int, default=8)
    parser.add_argument("--size", type=_size, default=(1920, 1080), metavar="WxH")
    _add_detector(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_demo)


def _add_references(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="make references of clips of your own")
    build.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="video files")
    build.add_argument(
        "--exercise", required=True, help="a name (see `exercises`) or your own YAML file"
    )
    build.add_argument(
        "--out", type=Path, default=_REFERENCES, help="folder of all references (%(default)s)"
    )
    build.add_argument("--quality", default="good", choices=FORM_QUALITIES, help="of their form")
    build.add_argument("--source", default="own recording", help="where the clips come from")
    build.add_argument("--licence", default="not stated", help="what may be done with them")
    _add_detector(build)
    build.add_argument("--quiet", action="store_true", help="no progress bar")
    build.set_defaults(run=_references_build)
    told = commands.add_parser("list", help="tell which references there are")
    told.add_argument(
        "folder", type=Path, nargs="?", help=f"{_REFERENCES} if it is there, else the package's"
    )
    told.set_defaults(run=_references_list)


def _add_bench(parser: argparse.ArgumentParser) -> None:
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
    _add_detector(parser)
    parser.set_defaults(run=_bench)


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


def _add_export(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=_export)


def _counted(n: int, noun: str = "repetition") -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


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


def _analyze(args: argparse.Namespace) -> int:
    from pose_analyzer.clip_analysis import AnalysisRequest, analyze_clip

    request = AnalysisRequest(
        clip=args.clip,
        exercise=args.exercise,
        out=args.out,
        detector=args.detector,
        weights=args.weights,
        device=args.device,
        stature_m=args.stature,
        write_video=not args.no_video,
        download=args.download_weights,
        speak=args.speak,
        references=args.references,
        false_positive_rate=args.false_positive_rate,
    )
    with _Bar("analyse", quiet=args.quiet) as bar:
        result = analyze_clip(request, bar.show)
    _print_result(result)
    return 0


def _synth(args: argparse.Namespace) -> int:
    from pose_analyzer.synthetic import ClipSpec, parse_fault, synthesize_clip

    width, height = args.size
    faults = tuple(parse_fault(text) for text in args.fault)
    names = [fault.name for fault in faults]
    spec = ClipSpec(
        exercise=args.exercise,
        reps=args.reps,
        faults=faults,
        yaw_deg=_yaw_that_shows(args.exercise, names) if args.yaw is None else args.yaw,
        pitch_deg=args.pitch,
        distance_m=args.distance,
        fps=args.fps,
        width=width,
        height=height,
        stature_m=args.stature,
        bystanders=args.people,
        seed=args.seed,
    )
    with _Bar("render", quiet=args.quiet) as bar:
        truth = synthesize_clip(spec, args.out, bar.show)
    print(
        f"wrote {args.out} ({truth.n_frames} frames, {_counted(truth.rep_count)}, seen from "
        f"{spec.yaw_deg:g} degrees) and its truth"
    )
    return 0


def _yaw_that_shows(exercise: str, faults: Sequence[str]) -> float:
    """Return the yaw of a camera that sees these faults: the side, the front or between."""
    if exercise not in exercise_names():
        return 90.0
    specs = [one for one in load_exercise(exercise).faults if one.name in faults]

    def n_shown(yaw_deg: float) -> int:
        shown = {one.name for one in specs if one.min_yaw_deg <= yaw_deg <= one.max_yaw_deg}
        return len(shown)

    return max((90.0, 0.0, 45.0, 20.0), key=n_shown)


def _demo(args: argparse.Namespace) -> int:
    """Render a squat set with one fault, analyse it, and say how many were counted of how many."""
    from pose_analyzer.clip_analysis import AnalysisRequest, analyze_clip
    from pose_analyzer.synthetic import ClipSpec, Fault, synthesize_clip

    width, height = args.size
    spec = ClipSpec(
        reps=args.reps, faults=(Fault("forward_knee", 0.5),), width=width, height=height
    )
    clip = args.out / "squat.mp4"
    _make_folder(args.out)
    with _Bar("render", quiet=args.quiet) as bar:
        synthesize_clip(spec, clip, bar.show)
    request = AnalysisRequest(
        clip=clip,
        exercise="squat",
        out=args.out,
        detector=args.detector,
        weights=args.weights,
        device=args.device,
        stature_m=spec.stature_m,
        download=args.download_weights,
    )
    with _Bar("analyse", quiet=args.quiet) as bar:
        result = analyze_clip(request, bar.show)
    _print_result(result)
    print(f"open {result.files[-1]} in a browser")
    print(f"counted {result.summary.rep_count} of {_counted(args.reps)}")
    return 0 if result.summary.rep_count == args.reps else 1


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise VideoWriteError(f"cannot write to {folder}: {exc.strerror}") from exc


def _references_build(args: argparse.Namespace) -> int:
    from pose_analyzer.reference_builder import BuildRequest, build_references

    request = BuildRequest(
        clips=tuple(args.clips),
        exercise=args.exercise,
        out=args.out,
        quality=args.quality,
        source=args.source,
        licence=args.licence,
        detector=args.detector,
        weights=args.weights,
        device=args.device,
        download=args.download_weights,
    )
    with _Bar("build", quiet=args.quiet) as bar:
        result = build_references(request, bar.show)
    for clip in result.clips:
        print(f"{clip.video_id}: {_counted(len(clip.motions))} by {clip.detector}")
    for note in result.notes:
        print(f"note: {note}")
    print(f"{result.folder} holds {_counted(result.n_reps)} now")
    return 0


def _references_list(args: argparse.Namespace) -> int:
    folder = args.folder or (_REFERENCES if _REFERENCES.is_dir() else shipped_folder())
    names = exercises_in(folder)
    if not names:
        raise ReferencesError(
            f"{folder} holds no references; make some with: pose-analyzer references build"
        )
    print(folder)
    for name in names:
        clips = load_clips(folder, name)
        n_good = sum(len(clip.motions) for clip in clips if clip.form_quality == "good")
        n_reps = sum(len(clip.motions) for clip in clips)
        licences = ", ".join(sorted({clip.licence for clip in clips}))
        sources = ", ".join(sorted({clip.source for clip in clips}))
        print(
            f"{name:16} {_counted(n_reps)}, {n_good} good, in {_counted(len(clips), 'clip')}; "
            f"{sources}; licence: {licences}"
        )
    return 0


def _bench(args: argparse.Namespace) -> int:
    from pose_analyzer.cli_bench import run_bench

    return run_bench(args)


def _export(args: argparse.Namespace) -> int:
    from pose_analyzer.cli_export import run_export

    with _Bar("render", quiet=args.quiet) as bar:
        return run_export(args, bar.show)


def _exercises(_: argparse.Namespace) -> int:
    for name in exercise_names():
        spec = load_exercise(name)
        names = spec.phases
        print(f"{name:16} {spec.title}; film {spec.best_view}")
        print(f"{'':16} phases: {names.rest}, {names.away}, {names.turn}, {names.back}")
        for view in spec.views:
            print(f"{'':16} {view.film_from}: {view.shows}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    print(f"pose-analyzer {__version__}, Python {platform.python_version()}, {platform.machine()}")
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        state = "ready" if not missing else f'missing: pip install "pose-analyzer[{extra}]"'
        versions = ", ".join(_version(name) for name in modules if name not in missing)
        print(f"{extra:10} {state}{'; ' + versions if versions else ''}")
    print(f"GPU        {_gpu()}")
    return 0


_EXTRAS: Final = {
    "video": ("av", "cv2", "tqdm"),
    "mediapipe": ("mediapipe",),
    "yolo": ("ultralytics", "torch"),
    "onnx": ("onnxruntime",),
    "speech": ("espeakng_loader",),
    "live": ("pynvml", "prometheus_client"),
    "export": ("openvino", "nncf", "onnx"),
}


def _version(module: str) -> str:
    names = importlib.metadata.packages_distributions().get(module, [module])
    return f"{names[0]} {importlib.metadata.version(names[0])}"


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "unknown: torch is not installed"
    import torch

    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else "none"


def _print_result(result: AnalysisResult) -> None:
    summary = result.summary
    seen = summary.n_frames_seen / summary.n_frames if summary.n_frames else 0.0
    score = "not scored" if math.isnan(summary.mean_score) else f"{summary.mean_score:.0f} of 100"
    print(
        f"{summary.source}: {_counted(summary.rep_count)} of {summary.exercise}, mean score {score}"
    )
    view = "" if math.isnan(summary.yaw_deg) else f", camera yaw about {summary.yaw_deg:.0f} deg"
    print(f"athlete seen in {seen:.0%} of {summary.n_frames} frames by {summary.detector}{view}")
    for one in summary.reps:
        kind = "partial" if one.rep.is_partial else f"rep {one.rep.number}"
        total = "-" if math.isnan(one.score.total) else f"{one.score.total:.0f}"
        remarks = [fault.name.replace("_", " ") for fault in one.faults]
        if one.anomaly.is_anomaly:
            channel = one.anomaly.joints[0][0].replace("_", " ") if one.anomaly.joints else "all"
            remarks.append(f"unlike the good ones, most in {channel}")
        faults = ", ".join(remarks)
        print(
            f"  {kind:8} {one.rep.start_s:6.1f} s {one.rep.duration_s:5.1f} s {total:>4}  {faults}"
        )
    for cue in summary.cues:
        print(f"  {cue.time_s:6.1f} s  {cue.text}")
    for warning in (*summary.warnings, *result.notes):
        print(f"note: {warning}")
    print("wrote " + ", ".join(str(path) for path in result.files))


class _Bar:
    """A progress bar on stderr, where tqdm and a terminal are; else silence."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        self._title = title
        has_terminal = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
        self._quiet = quiet or not has_terminal

    def __enter__(self) -> _Bar:
        if not self._quiet:
            from tqdm import tqdm

            self._bar = tqdm(desc=self._title, unit=" frames", file=sys.stderr, leave=False)
        return self

    def show(self, done: int, total: int | None) -> None:
        """Show that ``done`` of about ``total`` frames are done."""
        if not self._quiet:
            self._bar.total = None if total is None else max(total, done)
            self._bar.update(done - self._bar.n)

    def __exit__(self, *_: object) -> None:
        if not self._quiet:
            self._bar.close()


if __name__ == "__main__":
    sys.exit(main())
