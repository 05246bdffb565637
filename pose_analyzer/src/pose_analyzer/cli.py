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
from pose_analyzer.cli_arguments import (
    REFERENCES,
    add_analyze,
    add_bench,
    add_demo,
    add_export,
    add_references,
    add_synth,
)
from pose_analyzer.errors import PoseAnalyzerError, ReferencesError, VideoWriteError
from pose_analyzer.exercise_file import exercise_names, load_exercise
from pose_analyzer.references import exercises_in, load_clips, shipped_folder

if TYPE_CHECKING:
    from pose_analyzer.clip_analysis import AnalysisResult

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


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
    for name, told, add_arguments, run in (
        ("analyze", "analyse a clip and write its reports", add_analyze, _analyze),
        ("synth", "render a synthetic athlete with exact truth", add_synth, _synth),
        ("demo", "render a set of squats and analyse it", add_demo, _demo),
        ("references", "good repetitions to compare with", add_references, _references),
        ("export", "export YOLO weights and measure what it costs", add_export, _export),
        ("bench", "how many live streams this machine holds", add_bench, _bench),
    ):
        command = commands.add_parser(name, help=told)
        add_arguments(command)
        command.set_defaults(run=run)
    exercises = commands.add_parser("exercises", help="list the exercises that are known")
    exercises.set_defaults(run=_exercises)
    doctor = commands.add_parser("doctor", help="tell what is installed and what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _counted(n: int, noun: str = "repetition") -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


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

    fault = Fault("forward_knee", 0.5)
    width, height = args.size
    spec = ClipSpec(reps=args.reps, faults=(fault,), width=width, height=height)
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
    named = sum(fault.name in {found.name for found in rep.faults} for rep in result.summary.reps)
    print(
        f"counted {result.summary.rep_count} of {_counted(args.reps)}; the rendered athlete lets "
        f"the knees go too far forward in all of them, which was named in {named}"
    )
    return 0 if result.summary.rep_count == args.reps else 1


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise VideoWriteError(f"cannot write to {folder}: {exc.strerror}") from exc


def _references(args: argparse.Namespace) -> int:
    return _references_build(args) if args.action == "build" else _references_list(args)


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
    folder = args.folder or (REFERENCES if REFERENCES.is_dir() else shipped_folder())
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
