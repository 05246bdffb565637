"""Which references an analysis compares with: the shipped ones, and the athlete's own."""

from __future__ import annotations

from pathlib import Path

from pose_analyzer.errors import ReferencesError
from pose_analyzer.reference_judge import FILE_NAME, VIEWS, ReferenceJudge
from pose_analyzer.references import load_references, shipped_folder


def shipped_judge(exercise: str) -> ReferenceJudge | None:
    """Return the judge that ships with the package; None for an exercise without one."""
    folder = shipped_folder() / exercise
    if not any((folder / FILE_NAME.format(view=view)).is_file() for view in VIEWS):
        return None
    return ReferenceJudge.load(folder, exercise)


def personal_judge(exercise: str, folder: Path) -> ReferenceJudge:
    """Return the shipped judge, blended with the good repetitions of a folder.

    Parameters
    ----------
    exercise : str
        Its name.
    folder : Path
        Of references that ``pose-analyzer references build`` made, of one athlete.

    Raises
    ------
    ReferencesError
        If the folder has no good repetitions of the exercise, none from a view that the shipped
        references have, or nothing is shipped for the exercise.
    """
    own = [one.motion for one in load_references(folder, exercise) if one.form_quality == "good"]
    if not own:
        raise ReferencesError(
            f"{folder / exercise} holds no good repetition; add some with: pose-analyzer "
            "references build --quality good"
        )
    judge = shipped_judge(exercise)
    if judge is None:
        raise ReferencesError(
            f"nothing is shipped for {exercise} to calibrate your own with; leave --references out"
        )
    return judge.personalised(own)
