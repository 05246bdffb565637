"""What every report of this repository shares: its head, its bars, its page.

A script makes one `Report`, adds bars, tables, text and figures in the order in which a reader
should meet them, and calls `Report.write`, which leaves ``reports/<name>.json`` and a page rendered
from the same values. No figure in a report is ever typed by hand.
"""

from __future__ import annotations

import html
import json
import math
import operator
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, SupportsFloat

import numpy as np
import numpy.typing as npt
from report_page import (
    NOT_MEASURED,
    PAGE,
    Block,
    Figure,
    Json,
    Table,
    Text,
    cell_text,
    html_table,
    markdown_table,
)

REPOSITORY: Final = Path(__file__).resolve().parents[1]

_GOAL: Final = re.compile(r"\s*(<=|>=|==|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure that was asked for, against its goal.

    Attributes
    ----------
    name : str
        Says what was measured, with the statistic: ``"smoother_us_p50_1_person"``.
    goal : str or None
        ``"<= 60"``, ``">= 0.75"``, ``"== 10"``, ...; None where no goal was set.
    measured : float or None
        None if it was not measured; ``note`` then says why.
    unit : str
        Of goal, measured, p95 and p99.
    n : int or None
        How many samples stand behind it.
    p95, p99 : float or None
        Upper percentiles of the same samples.
    holds : bool or None
        Whether the goal is met; None without a goal or a measurement.
    note : str
        What a reader must know to judge the figure.
    """

    name: str
    goal: str | None
    measured: float | None
    unit: str
    n: int | None
    p95: float | None
    p99: float | None
    holds: bool | None
    note: str


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one call, from ``n`` calls after the warm-up; microseconds."""

    median_us: float
    p95_us: float
    p99_us: float
    n: int

    @classmethod
    def of(cls, seconds: npt.ArrayLike) -> Timing:
        """Return the statistics of durations in seconds, at least one."""
        durations_us = np.asarray(seconds, dtype=np.float64) * 1e6
        if durations_us.size == 0:
            raise ValueError("a timing needs at least one duration, got none")
        median, p95, p99 = (float(value) for value in np.percentile(durations_us, [50, 95, 99]))
        return cls(median_us=median, p95_us=p95, p99_us=p99, n=int(durations_us.size))


def measure(call: Callable[[], object], n: int, warmup: int = 0) -> Timing:
    """Return how long ``call()`` takes, each call timed by itself.

    Parameters
    ----------
    call : callable
        The work; what it returns is thrown away.
    n : int
        Timed calls, at least 1.
    warmup : int
        Calls before them that are not timed.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    for _ in range(warmup):
        call()
    durations_ns = np.empty(n, dtype=np.int64)
    for index in range(n):
        start_ns = time.perf_counter_ns()
        call()
        durations_ns[index] = time.perf_counter_ns() - start_ns
    return Timing.of(durations_ns * 1e-9)


def goal_holds(goal: str | None, measured: float | None) -> bool | None:
    """Return whether ``measured`` meets ``goal``; None without either, or for NaN.

    Raises
    ------
    ValueError
        If the goal is not a comparison sign and a number.
    """
    if goal is None:
        return None
    match = _GOAL.fullmatch(goal)
    if match is None:
        raise ValueError(f"a goal is '<=', '>=', '==', '<' or '>' and a number, got {goal!r}")
    if measured is None or math.isnan(measured):
        return None
    return _HOLDS[match[1]](measured, float(match[2]))


class Report:
    """A report under construction. Making it starts its clock.

    Parameters
    ----------
    name : str
        The file name without its ending, ``"joint_angle_accuracy"``.
    command : str
        What a reader runs to make it again, ``"scripts/run joint-angle-accuracy"``.
    title : str
        Heading of the page; made from the name when empty.
    folder : path, optional
        Where to write; ``reports/`` of the repository by default.
    """

    def __init__(
        self, name: str, command: str, *, title: str = "", folder: Path | None = None
    ) -> None:
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(f"a report's name is lower case with underscores, got {name!r}")
        self._name = name
        self._title = title or name.replace("_", " ").capitalize()
        self._command = command
        self._folder = REPOSITORY / "reports" if folder is None else folder
        self._start_s = time.perf_counter()
        self._bars: list[Bar] = []
        self._details: dict[str, object] = {}
        self._blocks: list[Block] = []

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The bars so far, in order."""
        return tuple(self._bars)

    def bar(  # noqa: PLR0913 - one keyword for each column of the table
        self,
        name: str,
        *,
        goal: str | None,
        measured: SupportsFloat | None,
        unit: str,
        n: int | None = None,
        p95: SupportsFloat | None = None,
        p99: SupportsFloat | None = None,
        note: str = "",
    ) -> Bar:
        """Add one figure and return it with its verdict. NaN means not measured."""
        bar = Bar(
            name=name,
            goal=goal,
            measured=_number(measured),
            unit=unit,
            n=None if n is None else int(n),
            p95=_number(p95),
            p99=_number(p99),
            holds=goal_holds(goal, _number(measured)),
            note=note,
        )
        if bar.measured is None and not note:
            raise ValueError(f"bar {name!r} was not measured: its note must say why")
        if any(other.name == name for other in self._bars):
            raise ValueError(f"bar {name!r} is already in the report")
        self._bars.append(bar)
        return bar

    def text(self, markdown: str) -> None:
        """Add paragraphs. On an HTML page they are shown as plain paragraphs."""
        self._blocks.append(Text(markdown.strip()))

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        text: str = "",
    ) -> None:
        """Add a table; its values stand in the JSON file too, under ``details.<title>``."""
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(
                    f"table {title!r} has {len(columns)} columns, a row has {len(row)}: {row!r}"
                )
        cells = [[to_json(cell) for cell in row] for row in rows]
        self._blocks.append(Table(title, tuple(columns), cells, text.strip()))
        self.detail(title, {"columns": list(columns), "rows": cells, "text": text.strip()})

    def detail(self, name: str, value: object) -> None:
        """Add data to the JSON file alone."""
        if name in self._details:
            raise ValueError(f"detail {name!r} is already in the report")
        self._details[name] = value

    def figure(self, title: str, png: bytes) -> None:
        """Add a picture; it is written beside the page as ``<name>_<title>.png``."""
        if not png.startswith(b"\x89PNG"):
            raise ValueError(f"figure {title!r} must be PNG bytes")
        slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        self._blocks.append(Figure(title, f"{self._name}_{slug}.png", png))

    def write(self, page: Literal["md", "html"] = "md") -> Path:
        """Write the JSON file, the page and its pictures; return the path of the page.

        A Markdown page names its pictures; an HTML page carries them within.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        meta = self._meta()
        data = {
            "meta": meta,
            "bars": [asdict(bar) for bar in self._bars],
            "details": self._details,
        }
        text = json.dumps(to_json(data), indent=1, ensure_ascii=False, allow_nan=False)
        _replace(self._folder / f"{self._name}.json", (text + "\n").encode())
        path = self._folder / f"{self._name}.{page}"
        if page == "html":
            _replace(path, self._html(meta).encode())
            return path
        for block in self._blocks:
            if isinstance(block, Figure):
                _replace(self._folder / block.file, block.png)
        _replace(path, self._markdown(meta).encode())
        return path

    def _meta(self) -> dict[str, str | float | None]:
        return {
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "gpu": gpu(),
            "command": self._command,
            "seconds": round(time.perf_counter() - self._start_s, 1),
        }

    def _markdown(self, meta: Mapping[str, str | float | None]) -> str:
        parts = [f"# {self._title}", _meta_sentence(meta, code="`")]
        if self._bars:
            parts.append(markdown_table(_BAR_COLUMNS, [_bar_row(bar) for bar in self._bars]))
        parts += [block.markdown() for block in self._blocks]
        return "\n\n".join(parts) + "\n"

    def _html(self, meta: Mapping[str, str | float | None]) -> str:
        body = [f"<h1>{html.escape(self._title)}</h1>"]
        body.append(f"<p class=meta>{html.escape(_meta_sentence(meta, code=''))}</p>")
        if self._bars:
            body.append(html_table(_BAR_COLUMNS, [_bar_row(bar) for bar in self._bars]))
        body += [block.html() for block in self._blocks]
        return PAGE.format(title=html.escape(self._title), body="\n".join(body))


def to_json(value: object) -> Json:
    """Return ``value`` as strict JSON: NaN and infinities become None, arrays become lists."""
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report holds numbers, texts, lists and mappings, got {type(value)}")


def command(script: str, arguments: Sequence[str]) -> str:
    """Return how a script was run, for a reader who has its files elsewhere: paths by name."""
    names = [Path(text).name if Path(text).is_absolute() else text for text in arguments]
    return shlex.join(["python", script, *names])


def commit() -> str:
    """Return the commit of the tree, with ``-dirty`` if anything but a report differs from it.

    On a machine that has a copy of the tree without its history, ``REPORT_COMMIT`` says which.
    """
    if told := os.environ.get("REPORT_COMMIT", ""):
        return told
    revision = _output("git", "rev-parse", "HEAD")
    if not revision:
        return "unknown"
    changed = _output("git", "status", "--porcelain", "--", ".", ":!reports")
    return f"{revision}-dirty" if changed else revision


def machine() -> str:
    """Return processor, cores, memory and Python of this machine; never its name."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores, {memory_bytes / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def gpu() -> str | None:
    """Return the names of the NVIDIA GPUs with their driver, or None if there is none."""
    listing = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return "; ".join(line.strip() for line in listing.splitlines()) or None


def _processor() -> str:
    """Return the model of the processor as the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown processor"


def _output(program: str, *arguments: str) -> str:
    """Return what a program prints, empty if it is missing or fails."""
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run(  # noqa: S603 - a program of the system, arguments of this file
        [path, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _number(value: SupportsFloat | None) -> float | None:
    """Return a Python float, or None for None and NaN."""
    return None if value is None or math.isnan(float(value)) else float(value)


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


_BAR_COLUMNS: Final = ("figure", "goal", "measured", "unit", "n", "p95", "p99", "holds", "note")


def _bar_row(bar: Bar) -> list[str]:
    verdict = {True: "yes", False: "**no**", None: ""}[bar.holds]
    measured = NOT_MEASURED if bar.measured is None else cell_text(bar.measured)
    percentiles = ["" if value is None else cell_text(value) for value in (bar.p95, bar.p99)]
    n = "" if bar.n is None else str(bar.n)
    return [bar.name, bar.goal or "", measured, bar.unit, n, *percentiles, verdict, bar.note]


def _meta_sentence(meta: Mapping[str, str | float | None], code: str) -> str:
    revision = str(meta["commit"])
    short = revision[:12] + ("-dirty" if revision.endswith("-dirty") else "")
    return (
        f"Made by {code}{meta['command']}{code} at commit {code}{short}{code}, {meta['date']}, "
        f"in {meta['seconds']} s on {meta['machine']}; GPU: {meta['gpu'] or 'none'}."
    )
