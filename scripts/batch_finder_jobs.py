"""What a process of the batch finder's check does: search, verify, or let a peer search.

The verification shares nothing with the finder but the step: it sets the limit by itself, runs, and
tells whether memory ran out.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Final, Literal

import torch
from batch_finder_cases import GIB, STEPS, CaseStep

from gpu_optimizer.batch_finder import BatchFinder
from gpu_optimizer.batch_result import SearchConfig
from gpu_optimizer.batch_trial import TrialOutcome
from gpu_optimizer.model_step import autocast_of, tensor_defaults
from gpu_optimizer.training_step import WEIGHT_DTYPES, make_optimizer

Kind = Literal["search", "verify", "lightning", "accelerate"]
_N_STEPS: Final = 3
_SEGMENT_BYTES: Final = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do in a process of its own.

    Attributes
    ----------
    kind : {"search", "verify", "lightning", "accelerate"}
        What.
    case : str
        A name of `STEPS`.
    budget_gib : int
        Of the emulated card.
    batch : int
        To verify.
    limit_bytes : int
        Of PyTorch's allocator, for all but a search.
    context_bytes : int or None
        For a search beside others on the card, where it cannot be measured.
    """

    kind: Kind
    case: str
    budget_gib: int
    batch: int = 0
    limit_bytes: int = 0
    context_bytes: int | None = None

    @property
    def name(self) -> str:
        """Everything that tells it from the others."""
        batch = f" batch {self.batch}" if self.batch else ""
        return f"{self.kind} {self.case} {self.budget_gib} GiB{batch}"


def do(job: Job) -> Mapping[str, object]:
    """Do it here and return what came of it."""
    step = STEPS[job.case]
    if job.kind == "search":
        return search(step, job)
    set_limit(job.limit_bytes)
    return {"verify": verify, "lightning": lightning, "accelerate": accelerate}[job.kind](step, job)


def set_limit(limit_bytes: int) -> None:
    """Let PyTorch hold no more, and half a segment so that rounding costs none."""
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((limit_bytes + _SEGMENT_BYTES // 2) / total)


def search(step: CaseStep, job: Job) -> Mapping[str, object]:
    """Return what the finder finds."""
    config = SearchConfig(context_bytes=job.context_bytes)
    result = BatchFinder(step, job.budget_gib * GIB, config).find()
    return asdict(replace(result, trials=tuple(map(_without_trace, result.trials))))


def _without_trace(trial: TrialOutcome) -> TrialOutcome:
    """Return a trial whose traceback, which is that of memory running out, is left out."""
    if trial.failure is None:
        return trial
    return replace(trial, failure=replace(trial.failure, trace=""))


def verify(step: CaseStep, job: Job) -> Mapping[str, object]:
    """Return whether a batch runs here, in a process that has done nothing else."""
    start_s = time.perf_counter()
    ran, said = True, ""
    try:
        _run(step, job.batch)
    except RuntimeError as exc:
        # cuDNN gives up with an error of its own where none of its engines gets its workspace.
        is_cudnn = "was unable to find an engine" in str(exc)
        is_full = is_cudnn and torch.cuda.memory_stats().get("num_ooms", 0) > 0
        if not (is_full or isinstance(exc, torch.OutOfMemoryError)):
            raise
        ran, said = False, str(exc).partition(". ")[0]
    return {
        "ran": ran,
        "said": said,
        "reserved_bytes": torch.cuda.max_memory_reserved(),
        "seconds": time.perf_counter() - start_s,
    }


def _run(step: Callable[[int], object], batch: int) -> int:
    """Run two steps, an evaluation and a step."""
    program = step(batch)
    run, evaluate = program.step, program.evaluate  # type: ignore[attr-defined]
    for _ in range(_N_STEPS - 1):
        run()
    evaluate()
    run()
    torch.cuda.synchronize()
    return batch


def accelerate(step: Callable[[int], object], job: Job) -> Mapping[str, object]:  # noqa: ARG001
    """Return what `find_executable_batch_size` finds with its defaults."""
    memory = _library("accelerate.utils.memory")
    start_s = time.perf_counter()

    def run(batch_size: int) -> int:
        return _run(step, batch_size)

    found = memory.find_executable_batch_size(run)()
    return {"n": found, "seconds": time.perf_counter() - start_s, "note": "from 128, its default"}


def lightning(step: CaseStep, job: Job) -> Mapping[str, object]:  # noqa: ARG001
    """Return what Lightning's BatchSizeFinder finds by bisection, without and with its margin."""
    library = _library("pytorch_lightning")
    tuning = _library("pytorch_lightning.tuner")
    start_s = time.perf_counter()
    module = _lightning_module(library, step)
    with tempfile.TemporaryDirectory() as folder:
        trainer = library.Trainer(
            accelerator="gpu" if step.device == "cuda" else "cpu", devices=1, max_epochs=1,
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        )  # fmt: skip
        tuner = tuning.Tuner(trainer)
        parameters = inspect.signature(tuner.scale_batch_size).parameters
        options = {"margin": 0.0} if "margin" in parameters else {}
        found = tuner.scale_batch_size(
            module, mode="binsearch", steps_per_trial=_N_STEPS, init_val=2, **options
        )
    margin = parameters["margin"].default if "margin" in parameters else 0.0
    return {
        "n": found,
        "n_default": int(found * (1 - margin)),
        "seconds": time.perf_counter() - start_s,
        "note": "without its margin; no evaluation in its trials",
    }


def _lightning_module(library: ModuleType, step: CaseStep) -> object:
    """Return the same model, loss and optimizer as a module of Lightning's."""
    base = library.LightningModule
    workload = step.workload(1)
    dtype = WEIGHT_DTYPES[step.step.precision]
    autocast = autocast_of(step.step, step.device)

    def collate(items: list[int]) -> object:
        with tensor_defaults(dtype, "cpu"):
            return step.workload(len(items)).inputs_fn()

    def init(self) -> None:  # type: ignore[no-untyped-def]
        base.__init__(self)
        self.batch_size = 2
        with tensor_defaults(dtype, step.device):
            self.model = workload.model_fn()

    def training_step(self, batch: object, _: int) -> torch.Tensor:  # type: ignore[no-untyped-def]
        with autocast():
            return workload.loss_fn(self.model, batch)

    def optimizers(self) -> torch.optim.Optimizer:  # type: ignore[no-untyped-def]
        return make_optimizer(self.model, step.step.optimizer)

    def loader(self) -> object:  # type: ignore[no-untyped-def]
        data = torch.utils.data.DataLoader
        return data(range(10**6), batch_size=self.batch_size, collate_fn=collate)  # type: ignore[arg-type]

    methods = {
        "__init__": init,
        "training_step": training_step,
        "configure_optimizers": optimizers,
        "train_dataloader": loader,
    }
    return type("Module", (base,), methods)()


def _library(name: str) -> ModuleType:
    """Return a peer's module.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed.
    """
    return importlib.import_module(name)
