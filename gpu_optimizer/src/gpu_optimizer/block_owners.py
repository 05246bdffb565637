"""Whose each block of a recording is: its phase, its module, and what it is for.

Parameters, gradients and optimizer state are known by the address of their storage. The rest is
told by when it lived:

- activations: made in forward and not freed before its end by the module that made them;
- activation gradients: made in backward, handed to another module, freed in backward;
- workspace: freed while the program was still where it had been made;
- other: inputs and all whose beginning or purpose is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpu_optimizer.event_table import ALLOC, FREE, IntColumn
from gpu_optimizer.recording import Recording, StorageNames

PARAMETERS: Final = "parameters"
GRADIENTS: Final = "gradients"
STATE: Final = "optimizer state"
ACTIVATIONS: Final = "activations"
ACTIVATION_GRADIENTS: Final = "activation gradients"
WORKSPACE: Final = "workspace"
OTHER: Final = "other"
CATEGORIES: Final = (
    PARAMETERS,
    GRADIENTS,
    STATE,
    ACTIVATIONS,
    ACTIVATION_GRADIENTS,
    WORKSPACE,
    OTHER,
)
OUTSIDE: Final = "(outside modules)"
BEFORE: Final = "before"
"""The phase of what was there before the recording began."""
_FOREVER: Final = -1


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a block is.

    Attributes
    ----------
    phase : str
        In which it was allocated: one of `module_tags.PHASES`, or ``"before"``.
    module : str
        Full name, `OUTSIDE` where it was made outside of all modules.
    category : str
        One of `CATEGORIES`.
    """

    phase: str
    module: str
    category: str

    def tag(self) -> str:
        """Return it in the form of `AllocationEvent.tag`."""
        return f"{self.phase}|{self.module}|{self.category}"


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """The owner of every block.

    Attributes
    ----------
    of_block : ndarray of int64, shape (B,)
        Index into `owners`.
    owners : tuple of Owner
        The different ones.
    """

    of_block: IntColumn
    owners: tuple[Owner, ...]


@dataclass(frozen=True, slots=True)
class _Life:
    """Where the program was when a block was made and freed: phase, module, stay."""

    is_initial: bool
    phase: str
    module: str
    end_phase: str
    is_brief: bool


def find_owners(recording: Recording, names: StorageNames) -> Owners:
    """Return the owner of each block of a recording."""
    table = recording.trace.table
    parts = [place_of(tag) for tag in table.tags]
    stays = _stays(table.tag_indices)
    n_blocks = len(recording.addresses)
    births, deaths = np.full(n_blocks, _FOREVER), np.full(n_blocks, _FOREVER)
    births[table.blocks[table.kinds == ALLOC]] = np.flatnonzero(table.kinds == ALLOC)
    deaths[table.blocks[table.kinds == FREE]] = np.flatnonzero(table.kinds == FREE)
    tags = table.tag_indices.tolist()
    found: dict[Owner, int] = {}
    of_block = np.zeros(n_blocks, np.int64)
    has_backward = any(parts[index][0] == "backward" for index in set(tags))
    for block, (birth, death) in enumerate(zip(births.tolist(), deaths.tolist(), strict=True)):
        if birth == _FOREVER:
            owner = Owner(BEFORE, OUTSIDE, OTHER)
        else:
            phase, module = parts[tags[birth]]
            life = _Life(
                is_initial=birth < recording.trace.n_initial,
                phase=phase,
                module=module,
                end_phase=parts[tags[death]][0] if death != _FOREVER else "",
                is_brief=death != _FOREVER and stays[birth] == stays[death],
            )
            owner = _owner(recording.addresses[block], life, names, has_backward=has_backward)
        of_block[block] = found.setdefault(owner, len(found))
    return Owners(of_block, tuple(found))


def _owner(address: int, life: _Life, names: StorageNames, *, has_backward: bool) -> Owner:
    phase = BEFORE if life.is_initial else life.phase
    for category, known in _known(life, names):
        if address in known:
            return Owner(phase, known[address] or "(model)", category)
    if life.is_initial:
        return Owner(phase, OUTSIDE, OTHER)
    return Owner(phase, life.module, _by_life(life, has_backward=has_backward))


def _known(life: _Life, names: StorageNames) -> list[tuple[str, Mapping[int, str]]]:
    """Return the names that a block may have: addresses are used again, so its life must fit."""
    outlives = life.end_phase != life.phase
    known: list[tuple[str, Mapping[int, str]]] = []
    if life.is_initial or not life.end_phase:
        known += [(PARAMETERS, names.parameters)]
    if life.is_initial or (life.phase == "backward" and outlives):
        known += [(GRADIENTS, names.gradients)]
    if life.is_initial or (life.phase == "optimizer" and outlives):
        known += [(STATE, names.states)]
    return known


def _by_life(life: _Life, *, has_backward: bool) -> str:
    """Return what a block is for that nobody named."""
    if life.is_brief:
        return WORKSPACE
    if life.phase == "forward":
        return ACTIVATIONS if life.end_phase or not has_backward else OTHER
    if life.phase == "evaluation":
        return ACTIVATIONS
    if life.phase == "backward" and life.end_phase == "backward":
        return ACTIVATION_GRADIENTS
    return WORKSPACE if life.phase == life.end_phase else OTHER


def place_of(tag: str) -> tuple[str, str]:
    """Return phase and module of a tag; what was recorded without one is of no phase."""
    phase, _, rest = tag.partition("|")
    return phase or "other", rest.partition("|")[0] or OUTSIDE


def _stays(tag_indices: IntColumn) -> list[int]:
    """Return a number for each event that changes whenever the tag does."""
    if not tag_indices.size:
        return []
    stays: list[int] = np.concatenate(([0], np.cumsum(np.diff(tag_indices) != 0))).tolist()
    return stays
