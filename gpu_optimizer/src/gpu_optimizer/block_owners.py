"""Whose each block of a recording is: its phase, its module, and what it is for.

Parameters, gradients and optimizer state are known by the address of their storage. The rest is
told by when it lived:

- gradients: made in backward, as large as a parameter of their module, kept beyond it;
- activations: made in forward and not freed before its end by the module that made them, or made
  by computing forward again in backward;
- activation gradients: made in backward, handed to another module, freed in backward;
- workspace: freed while the program was still where it had been made, or in the same phase if that
  is an optimizer's step;
- other: inputs and all whose beginning or purpose is not known.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from gpu_optimizer.event_table import ALLOC, FREE, IntColumn
from gpu_optimizer.module_tags import AGAIN
from gpu_optimizer.recording import MODEL, Recording, StorageNames

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
    """Where the program was when a block was made and freed.

    Attributes
    ----------
    phase, module, end_phase : str
        Where it was made, and the phase in which it was freed, empty if it was not.
    is_initial : bool
        Whether it was there before the recording.
    is_brief : bool
        Whether the program did not move meanwhile.
    outlives : bool
        Whether the program left the phase meanwhile, or an optimizer stepped within it.
    is_again : bool
        Whether it was made by computing forward again.
    """

    phase: str
    module: str
    end_phase: str
    is_initial: bool
    is_brief: bool
    outlives: bool
    is_again: bool
    n_bytes: int


def find_owners(recording: Recording, names: StorageNames) -> Owners:
    """Return the owner of each block of a recording."""
    table = recording.trace.table
    parts = [place_of(tag) for tag in table.tags]
    ends = [tag.rpartition("|")[2] for tag in table.tags]
    tags = table.tag_indices.tolist()
    stays = _runs(tags)
    phases = _runs([(parts[tag][0], ends[tag].partition("#")[2]) for tag in tags])
    n_blocks = len(recording.addresses)
    births, deaths = np.full(n_blocks, _FOREVER), np.full(n_blocks, _FOREVER)
    births[table.blocks[table.kinds == ALLOC]] = np.flatnonzero(table.kinds == ALLOC)
    deaths[table.blocks[table.kinds == FREE]] = np.flatnonzero(table.kinds == FREE)
    found: dict[Owner, int] = {}
    of_block = np.zeros(n_blocks, np.int64)
    has_backward = any(parts[index][0] == "backward" for index in set(tags))
    for block, (birth, death) in enumerate(zip(births.tolist(), deaths.tolist(), strict=True)):
        if birth == _FOREVER:
            owner = Owner(BEFORE, OUTSIDE, OTHER)
        else:
            phase, module = parts[tags[birth]]
            life = _Life(
                phase=phase,
                module=module,
                end_phase=parts[tags[death]][0] if death != _FOREVER else "",
                is_initial=birth < recording.trace.n_initial,
                is_brief=death != _FOREVER and stays[birth] == stays[death],
                outlives=death == _FOREVER or phases[birth] != phases[death],
                is_again=ends[tags[birth]].startswith(AGAIN),
                n_bytes=int(table.n_bytes[birth]),
            )
            named = _named(recording.addresses[block], life, names, is_cut=recording.n_lost > 0)
            owner = named or _unnamed(life, names, has_backward=has_backward)
        of_block[block] = found.setdefault(owner, len(found))
    return Owners(of_block, tuple(found))


def _named(address: int, life: _Life, names: StorageNames, *, is_cut: bool) -> Owner | None:
    """Return the owner of a block by its address, which had this name while it lived."""
    known: list[tuple[str, Mapping[int, str]]] = []
    for named, is_then in ((names.at_start, life.is_initial), (names.at_end, not life.end_phase)):
        if is_then:
            known += [
                (PARAMETERS, named.parameters),
                (GRADIENTS, named.gradients),
                (STATE, named.states),
            ]
    # Where the history is cut off, what seems to be from before may have been made within it.
    is_stranger = life.is_initial and is_cut
    if is_stranger or (life.phase == "optimizer" and life.outlives):
        known += [(STATE, names.states)]
    phase = BEFORE if life.is_initial else life.phase
    for category, owners in known:
        if address in owners:
            return Owner(phase, owners[address] or MODEL, category)
    if address in names.gradients and (is_stranger or (life.phase == "backward" and life.outlives)):
        candidates = names.gradients[address]
        is_own = life.module in candidates
        return Owner(phase, life.module if is_own else candidates[0] or MODEL, GRADIENTS)
    return None


def _unnamed(life: _Life, names: StorageNames, *, has_backward: bool) -> Owner:
    if life.is_initial:
        return Owner(BEFORE, OUTSIDE, OTHER)
    is_kept = life.phase == "backward" and life.outlives and not life.is_again
    if is_kept and life.n_bytes in names.sizes.get(life.module, ()):
        return Owner(life.phase, life.module, GRADIENTS)
    return Owner(life.phase, life.module, _by_life(life, has_backward=has_backward))


def _by_life(life: _Life, *, has_backward: bool) -> str:
    """Return what a block is for that nobody named."""
    if life.is_brief or (life.phase == "optimizer" and not life.outlives):
        return WORKSPACE
    if life.phase == "forward":
        return ACTIVATIONS if life.end_phase or not has_backward else OTHER
    if life.phase == "evaluation":
        return ACTIVATIONS
    if life.phase == "backward" and life.end_phase == "backward":
        return ACTIVATIONS if life.is_again else ACTIVATION_GRADIENTS
    return OTHER


def place_of(tag: str) -> tuple[str, str]:
    """Return phase and module of a tag; what was recorded without one is of no phase."""
    phase, _, rest = tag.partition("|")
    return phase or "other", rest.partition("|")[0] or OUTSIDE


def _runs(places: Sequence[Hashable]) -> list[int]:
    """Return a number for each event that changes whenever its place does."""
    if not places:
        return []
    changes = (one != before for one, before in zip(places[1:], places, strict=False))
    return list(accumulate(changes, initial=0))
