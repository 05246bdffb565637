"""Folders of reference repetitions: ``<folder>/<exercise>/`` with keypoints and their metadata.

``metadata.csv`` has a row for each clip and says where it comes from and under which licence;
``keypoints.npz`` holds its repetitions. A clip whose row was taken out is no longer used.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pose_analyzer.errors import ReferencesError
from pose_analyzer.reference_keypoints import ClipMotions, read_keypoints, write_keypoints
from pose_analyzer.types import RepMotion

COLUMNS: Final = (
    "video_id", "exercise_type", "form_quality", "keyframes", "source", "licence",
)  # fmt: skip
FORM_QUALITIES: Final = ("good", "faulty")
METADATA_NAME: Final = "metadata.csv"
KEYPOINTS_NAME: Final = "keypoints.npz"
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """One repetition to compare with.

    Attributes
    ----------
    motion : RepMotion
        Its movement; angles and their uncertainty are computed anew when it is read.
    video_id : str
        The clip it is from.
    form_quality : str
        One of `FORM_QUALITIES`.
    source, licence : str
        Where the clip comes from and what may be done with it.
    detector : str
        What saw its keypoints.
    """

    motion: RepMotion
    video_id: str
    form_quality: str
    source: str
    licence: str
    detector: str


@dataclass(frozen=True, slots=True)
class ReferenceClip:
    """A clip with all its repetitions; the attributes are those of `Reference`."""

    video_id: str
    form_quality: str
    source: str
    licence: str
    detector: str
    motions: tuple[RepMotion, ...]

    def __post_init__(self) -> None:
        if self.form_quality not in FORM_QUALITIES:
            raise ValueError(
                f"form_quality must be one of {', '.join(FORM_QUALITIES)}, "
                f"got {self.form_quality!r}"
            )
        if not self.video_id or not self.motions:
            raise ValueError(f"a clip needs a name and a repetition, got {self.video_id!r}")


def shipped_folder() -> Path:
    """Return the folder of references within the package; a link to ``data/pose_references``."""
    return Path(str(importlib.resources.files("pose_analyzer"))) / "_references"


def exercises_in(folder: Path) -> tuple[str, ...]:
    """Return the exercises that a folder has references of, sorted; none if it does not exist."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{METADATA_NAME}")))


def load_references(folder: Path, exercise: str, *, min_reps: int = 1) -> tuple[Reference, ...]:
    """Return all repetitions of an exercise, clip by clip in the order of the metadata.

    Parameters
    ----------
    folder : Path
        As given to ``references build --out``, or `shipped_folder`.
    exercise : str
        The name of the exercise.
    min_reps : int
        How many are needed.

    Raises
    ------
    ReferencesError
        If they are missing, damaged, too few, of another exercise or another format; the message
        names the file and what to do.
    """
    references = tuple(
        Reference(
            motion, clip.video_id, clip.form_quality, clip.source, clip.licence, clip.detector
        )
        for clip in load_clips(folder, exercise)
        for motion in clip.motions
    )
    if len(references) < min_reps:
        raise ReferencesError(
            f"{folder / exercise} holds {len(references)} of the {min_reps} repetitions that are "
            "needed; add clips with: pose-analyzer references build"
        )
    return references


def load_clips(folder: Path, exercise: str) -> tuple[ReferenceClip, ...]:
    """Return the clips of an exercise; raises as `load_references` does."""
    home = folder / exercise
    if not home.is_dir():
        known = ", ".join(exercises_in(folder)) or "none"
        raise ReferencesError(
            f"{folder} has no references of {exercise} (there are: {known}); make some with: "
            "pose-analyzer references build"
        )
    rows = _read_metadata(home / METADATA_NAME, exercise)
    found = {clip.video_id: clip for clip in read_keypoints(home / KEYPOINTS_NAME, exercise)}
    return tuple(_joined(row, found, home) for row in rows)


def save_clips(folder: Path, exercise: str, clips: Sequence[ReferenceClip]) -> int:
    """Add clips to an exercise's references and return how many repetitions it has now.

    Clips that are there stay; one of the same name is replaced. Both files are complete before
    either moves to its place.

    Raises
    ------
    ReferencesError
        If what is there cannot be read, or the folder cannot be written.
    """
    if not _FOLDER_NAME.fullmatch(exercise):
        raise ReferencesError(
            f"the exercise {exercise!r} cannot name a folder; use letters, digits, _ and -"
        )
    home = folder / exercise
    merged = {
        clip.video_id: clip for clip in (load_clips(folder, exercise) if home.is_dir() else ())
    }
    merged |= {clip.video_id: clip for clip in clips}
    for name in (KEYPOINTS_NAME, METADATA_NAME):
        if (home / name).is_dir():
            raise ReferencesError(f"{home / name} is a folder; remove it or choose another --out")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".references-", dir=home.parent) as staging:
            made = Path(staging)
            motions = [ClipMotions(c.video_id, c.detector, c.motions) for c in merged.values()]
            write_keypoints(made / KEYPOINTS_NAME, exercise, motions)
            text = _metadata(exercise, list(merged.values()))
            (made / METADATA_NAME).write_text(text, encoding="utf-8", newline="")
            home.mkdir(exist_ok=True)
            for name in (KEYPOINTS_NAME, METADATA_NAME):
                (made / name).replace(home / name)
    except OSError as exc:
        raise ReferencesError(f"cannot write to {home}: {exc.strerror}") from exc
    return sum(len(clip.motions) for clip in merged.values())


def _joined(row: dict[str, str], found: dict[str, ClipMotions], home: Path) -> ReferenceClip:
    """Return a clip from its row and its keypoints, which must belong together."""
    video_id = row["video_id"]
    clip = found.get(video_id)
    if clip is None:
        raise ReferencesError(f"{home / KEYPOINTS_NAME} does not hold {video_id}; build it again")
    n_told = len(row["keyframes"].split())
    if n_told != len(clip.motions):
        raise ReferencesError(
            f"{home / METADATA_NAME} tells {n_told} repetitions of {video_id}, "
            f"{KEYPOINTS_NAME} holds {len(clip.motions)}; build it again"
        )
    quality, source, licence = row["form_quality"], row["source"], row["licence"]
    return ReferenceClip(video_id, quality, source, licence, clip.detector, clip.motions)


def _metadata(exercise: str, clips: Sequence[ReferenceClip]) -> str:
    """Return the text of ``metadata.csv``; keyframes are start/turn/end in seconds, by spaces."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for clip in clips:
        keyframes = " ".join(
            "/".join(f"{motion.time_s[row]:.3f}" for row in (0, motion.turn_idx, -1))
            for motion in clip.motions
        )
        writer.writerow(
            (clip.video_id, exercise, clip.form_quality, keyframes, clip.source, clip.licence)
        )
    return file.getvalue()


def _read_metadata(path: Path, exercise: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except FileNotFoundError as exc:
        raise ReferencesError(f"{path} is missing; build the references again") from exc
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ReferencesError(f"{path} cannot be read: {exc}") from exc
    if sorted(header) != sorted(COLUMNS):
        raise ReferencesError(
            f"{path} must have the columns {', '.join(COLUMNS)}, got {', '.join(header) or 'none'}"
        )
    read = [_checked(path, number, header, row, exercise) for number, row in enumerate(rows, 2)]
    names = [row["video_id"] for row in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ReferencesError(f"{path} names {twice[0]} twice; take one row out")
    return read


def _checked(
    path: Path, number: int, header: list[str], cells: list[str], exercise: str
) -> dict[str, str]:
    if len(cells) != len(header):
        raise ReferencesError(f"{path}, row {number}: {len(header)} cells wanted, got {len(cells)}")
    row = dict(zip(header, cells, strict=True))
    if row["exercise_type"] != exercise:
        raise ReferencesError(
            f"{path}, row {number}: {row['video_id']} is of {row['exercise_type'] or 'nothing'}, "
            f"not of {exercise}"
        )
    if row["form_quality"] not in FORM_QUALITIES:
        raise ReferencesError(
            f"{path}, row {number}: form_quality must be one of {', '.join(FORM_QUALITIES)}, "
            f"got {row['form_quality']!r}"
        )
    return row
