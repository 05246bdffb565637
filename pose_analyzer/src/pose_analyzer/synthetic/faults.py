"""Errors of form that a synthetic athlete can be told to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FAULT_NAMES: Final = (
    "shallow_depth",
    "knee_valgus",
    "forward_knee",
    "rounded_back",
    "hip_sag",
    "asymmetry",
    "rushed_tempo",
    "uneven_tempo",
    "half_rep",
    "pause",
    "hip_pike",
)
"""What each does at severity 1, growing with the distance from the rest position:

- ``shallow_depth``: 40 % of the travel is missing;
- ``knee_valgus``: the knees turn 25 degrees inward about the line from hip to ankle;
- ``forward_knee``: the shins lean 16 degrees further forward, at the same knee angle;
- ``rounded_back``: the spine bends 80 degrees in its middle, near the end of its range;
- ``hip_sag``: the hips drop until trunk and legs make 30 degrees;
- ``asymmetry``: the left arm does 40 % less (60 % in a press, whose last part lifts little), the
  hips tilt and shift to the right (legs), or the shoulders turn 16 degrees towards the right arm
  and shift over it (push-up);
- ``rushed_tempo``: everything takes 27 % of its time;
- ``uneven_tempo``: repetitions alternate between up to 2.2 times faster and slower;
- ``half_rep``: a repetition turns back after 60 % (severity 0) to 30 % (severity 1) of the travel
  and does not count;
- ``pause``: a stop of 2 s half-way back;
- ``hip_pike``: the hips rise until trunk and legs make 40 degrees.
"""
_SINGLE: Final = frozenset({"half_rep", "pause"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One error of form.

    Attributes
    ----------
    name : str
        One of `FAULT_NAMES`.
    severity : float
        In [0, 1]; 0 is no fault at all.
    reps : tuple of int
        The repetitions that have it, from 1. Empty: all; for ``half_rep`` and ``pause`` the
        middle one only.
    """

    name: str
    severity: float = 1.0
    reps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in FAULT_NAMES:
            raise ValueError(f"unknown fault {self.name!r}; known faults: {', '.join(FAULT_NAMES)}")
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"severity of {self.name} must be in [0, 1], got {self.severity}")
        if any(number < 1 for number in self.reps):
            raise ValueError(f"reps of {self.name} count from 1, got {self.reps}")

    def severity_at(self, number: int, n_reps: int) -> float:
        """Return the severity in repetition ``number`` (from 1) of ``n_reps``."""
        chosen = self.reps
        if not chosen and self.name in _SINGLE:
            chosen = ((n_reps + 1) // 2,)
        return self.severity if not chosen or number in chosen else 0.0


def parse_fault(text: str) -> Fault:
    """Return a fault from ``"knee_valgus"``, ``"knee_valgus:0.6"`` or ``"half_rep:1:3,7"``.

    The parts are name, severity (1 if left out) and the repetitions that have it.

    Raises
    ------
    ValueError
        If the name is unknown (the message lists the known ones) or a number is not one.
    """
    name, _, rest = text.strip().partition(":")
    severity_text, _, reps_text = rest.partition(":")
    try:
        severity = float(severity_text) if severity_text else 1.0
        reps = tuple(int(part) for part in reps_text.split(",")) if reps_text else ()
    except ValueError as exc:
        raise ValueError(
            f"cannot read the fault {text!r}; write NAME, NAME:SEVERITY or NAME:SEVERITY:REPS, "
            "for example knee_valgus:0.6 or half_rep:1:3,7"
        ) from exc
    return Fault(name.strip().lower().replace("-", "_"), severity, reps)
