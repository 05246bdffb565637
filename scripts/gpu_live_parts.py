"""What the parts of `gpu_streams` share: the detector, the cameras, the analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpu_bench import DEVICE, Bench

from pose_analyzer.exercise_file import load_exercise
from pose_analyzer.inference.detector import TimedDetector
from pose_analyzer.inference.engine import PoseEngine
from pose_analyzer.inference.engine_batch import EngineConfig
from pose_analyzer.multi_stream_processor import ProcessorConfig
from pose_analyzer.pipeline import StreamPipeline
from pose_analyzer.serving.pipeline_processes import PipelineProcesses
from pose_analyzer.stream_load import Capture, LoadResult, LoadSpec, run_load
from pose_analyzer.types import ImageArray


def warm_detector(bench: Bench) -> TimedDetector:
    """Return the engine as a detector, ready for 1080p."""
    engine = PoseEngine(bench.network(), DEVICE, EngineConfig(max_batch=32))
    engine.warm_up()
    return TimedDetector("engine", engine, is_on_cpu=False)


def decoded(bench: Bench) -> Callable[[int, int], ImageArray]:
    """Return a camera that delivers decoded frames."""

    def capture(stream: int, index: int) -> ImageArray:
        return bench.images[(7 * stream + index) % len(bench.images)]

    return capture


def pipeline() -> StreamPipeline:
    """Return the analysis of one stream."""
    return StreamPipeline(load_exercise("squat"))


def processes_for(bench: Bench, n_streams: int) -> PipelineProcesses:
    """Return the processes that analyse so many streams: as asked for, or as they need."""
    if bench.n_processes is None:
        return PipelineProcesses.for_streams(n_streams)
    return PipelineProcesses(bench.n_processes)


def served(
    detector: TimedDetector, spec: LoadSpec, capture: Capture, processes: PipelineProcesses
) -> LoadResult:
    """Serve streams that some processes analyse, and return what came of their frames."""
    exercise = load_exercise("squat")
    spec = replace(spec, processor=ProcessorConfig(n_workers=processes.n_workers))
    return run_load(detector, spec, capture, lambda: processes.open(exercise))
