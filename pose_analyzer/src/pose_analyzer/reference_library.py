"""Which references an analysis compares with: a folder of one's own, or the shipped ones.

The shipped ones are a synthetic athlete's. Their threshold holds for synthetic athletes: a real
person moves otherwise and is called unlike them almost always (`scripts/run validate-form` tells).
So an analysis takes only references that it is given, and the shipped ones are there to compare
scores and channels with.
"""

from __future__ import annotations

from pathlib import Path

from pose_analyzer.reference_judge import FILE_NAME, VIEWS, ReferenceJudge
from pose_analyzer.references import load_references, shipped_folder


def shipped_judge(exercise: str) -> ReferenceJudge | None:
    """Return the judge that ships with the package; None for an exercise without one."""
    folder = shipped_folder() / exercise
    if not any((folder / FILE_NAME.format(view=view)).is_file() for view in VIEWS):
        return None
    return ReferenceJudge.load(folder, exercise)


def own_judge(exercise: str, folder: Path, false_positive_rate: float = 0.01) -> ReferenceJudge:
    """Return a judge that learned from the good repetitions of a folder alone.

    Every second repetition is a reference, the others set the threshold.

    Parameters
    ----------
    exercise : str
        Its name.
    folder : Path
        Of references that ``pose-analyzer references build`` made.
    false_positive_rate : float
        The share of such repetitions that may be called anomalies, in (0, 1).

    Raises
    ------
    ReferencesError
        If the folder has too few good repetitions for this rate; the message says how many it
        takes.
    """
    references = load_references(folder, exercise)
    own = [one.motion for one in references if one.form_quality == "good"]
    return ReferenceJudge.fit(exercise, own[::2], own[1::2], (), false_positive_rate)
