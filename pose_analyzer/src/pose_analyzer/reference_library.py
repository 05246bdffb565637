"""Which references an analysis compares with: a folder of one's own, or the shipped ones.

The shipped ones are a synthetic athlete's. Their threshold holds for synthetic athletes: a real
person moves otherwise and is called unlike them almost always (`scripts/run validate-form` tells).
So an analysis takes only references that it is given, and the shipped ones are there to compare
scores and channels with. A few repetitions of one's own do not make them personal either: the
synthetic athletes among whom a person would be one more are none like them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pose_analyzer.conformal import lowest_rate, scores_needed
from pose_analyzer.errors import ReferencesError
from pose_analyzer.form_anomaly_detector import MIN_REFERENCES
from pose_analyzer.reference_judge import FILE_NAME, VIEWS, ReferenceJudge, view_of
from pose_analyzer.references import METADATA_NAME, ReferenceClip, load_clips, shipped_folder
from pose_analyzer.types import RepMotion


def shipped_judge(exercise: str) -> ReferenceJudge | None:
    """Return the judge that ships with the package; None for an exercise without one."""
    folder = shipped_folder() / exercise
    if not any((folder / FILE_NAME.format(view=view)).is_file() for view in VIEWS):
        return None
    return ReferenceJudge.load(folder, exercise)


def own_judge(exercise: str, folder: Path, false_positive_rate: float = 0.01) -> ReferenceJudge:
    """Return a judge that learned from the good clips of a folder alone.

    Parameters
    ----------
    exercise : str
        Its name.
    folder : Path
        Of references that ``pose-analyzer references build`` made, or the exercise's own in it.
    false_positive_rate : float
        The share of good repetitions of a new clip that may be called anomalies, in (0, 1).

    Raises
    ------
    ValueError
        If the rate is not in (0, 1).
    ReferencesError
        If the folder has too few good clips for this rate; the message says how many it takes.

    Notes
    -----
    Repetitions of one clip resemble each other, so what counts are clips. From each side every
    second one is compared with, and each of the others sets the threshold with one repetition,
    each with another one in turn. The rate then holds for a repetition of a new clip that is
    exchangeable with those: filmed of the same people in the same manner. For another person or
    another camera nothing is guaranteed.
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
    if (folder / METADATA_NAME).is_file():
        folder = folder.resolve().parent
    good = [one for one in load_clips(folder, exercise) if one.form_quality == "good"]
    by_view = {view: [one for one in good if _view(one) == view] for view in VIEWS}
    _require_enough(exercise, by_view, false_positive_rate)
    references = [
        motion for clips in by_view.values() for clip in clips[::2] for motion in clip.motions
    ]
    others = [clip for clips in by_view.values() for clip in clips[1::2]]
    return ReferenceJudge.fit(
        exercise,
        references,
        [_one_of(clip, number) for number, clip in enumerate(others)],
        [clip.video_id for clip in others],
        false_positive_rate,
    )


def _view(clip: ReferenceClip) -> str:
    """Return the view that most of a clip is from; empty if it is unknown."""
    return Counter(view_of(one.yaw_deg) for one in clip.motions).most_common(1)[0][0]


def _one_of(clip: ReferenceClip, number: int) -> RepMotion:
    """Return one repetition of a clip, from its view."""
    mine = [one for one in clip.motions if view_of(one.yaw_deg) == _view(clip)]
    return mine[number % len(mine)]


def _require_enough(
    exercise: str, by_view: Mapping[str, Sequence[ReferenceClip]], rate: float
) -> None:
    """Raise unless one of the views has clips enough."""
    view, clips = max(by_view.items(), key=lambda item: len(item[1]))
    needed, n_others = scores_needed(rate), len(clips) // 2
    n_reps = sum(len(clip.motions) for clip in clips[::2])
    if n_others >= needed and n_reps >= MIN_REFERENCES:
        return
    had = ", ".join(f"{len(found)} from the {name}" for name, found in by_view.items())
    if n_others >= needed:
        raise ReferencesError(
            f"{exercise}: every second clip is compared with, and those from the {view} hold "
            f"{n_reps} of the {MIN_REFERENCES} good repetitions that are needed; add longer clips"
        )
    lower = f", or give --false-positive-rate {lowest_rate(n_others):.2g}" if n_others else ""
    raise ReferencesError(
        f"{exercise}: a false-positive rate of {rate:g} takes {2 * needed} good clips from one "
        f"side, half to compare with and half for the threshold; there are {had}; add more with: "
        f"pose-analyzer references build{lower}"
    )
