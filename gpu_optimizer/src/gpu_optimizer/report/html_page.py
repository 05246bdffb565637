"""A memory profile as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
import importlib.resources
import json
import re
from typing import Final

from gpu_optimizer.block_owners import CATEGORIES
from gpu_optimizer.memory_profile import MemoryProfile, Moment
from gpu_optimizer.report.profile_json import head, strict
from gpu_optimizer.report.profile_text import warnings_of

_TEMPLATE: Final = "page.html"
_SCRIPT: Final = "page.js"
_PLACE: Final = re.compile(r"\{\{(title|script|data)\}\}")
_N_BLOCKS: Final = 500
"""Of the list of what is alive at the peak; the flame graph holds all of it."""


def html_page(profile: MemoryProfile, title: str) -> str:
    """Return the page.

    Parameters
    ----------
    profile : MemoryProfile
        Shown are its timeline with a slider over its moments, and for each moment a flame graph of
        the layers and a map of segments and blocks; a table of layers; the largest blocks.
    title : str
        Heading of the page.
    """
    files = importlib.resources.files("gpu_optimizer.report")
    page = files.joinpath(_TEMPLATE).read_text(encoding="utf-8")
    script = files.joinpath(_SCRIPT).read_text(encoding="utf-8")
    # "</script>" in a name must not end the data.
    data = json.dumps(strict(_data(profile)), separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c")
    parts = {"title": html.escape(title), "script": script, "data": data}
    # All at once, so that no part is looked for in another.
    return _PLACE.sub(lambda place: parts[place[1]], page)


def _data(profile: MemoryProfile) -> dict[str, object]:
    timeline = profile.timeline
    category_of = {name: index for index, name in enumerate(CATEGORIES)}
    return {
        **head(profile),
        "warnings": warnings_of(profile),
        "categories": CATEGORIES,
        "owners": [(one.phase, one.module, category_of[one.category]) for one in profile.owners],
        "timeline": {
            "events": timeline.events,
            "times_us": timeline.times_us,
            "bytes": timeline.category_bytes.T,
            "reserved": timeline.reserved_bytes,
        },
        "moments": [_moment(profile, moment) for moment in profile.moments],
        "phases": [
            (one.name, one.peak_bytes, one.retained_bytes, one.n_allocations)
            for one in profile.phases
        ],
        "layers": [
            (
                row.module,
                row.at_peak_bytes,
                row.own_peak_bytes,
                [(one.name, one.peak_bytes, one.retained_bytes) for one in row.phases],
            )
            for row in profile.layers
        ],
        "blocks": [
            (one.size_bytes, one.owner.module, one.owner.category, one.owner.phase)
            for one in profile.at_peak[:_N_BLOCKS]
        ],
    }


def _moment(profile: MemoryProfile, moment: Moment) -> dict[str, object]:
    fragmentation = moment.memory.fragmentation
    owner_of = profile.owner_of_block
    return {
        "event": moment.event,
        "time_us": moment.time_us,
        "owners": moment.owner_bytes,
        "fragmentation": (
            fragmentation.waste,
            fragmentation.external,
            fragmentation.unreleasable_bytes,
            fragmentation.internal_bytes,
        ),
        "segments": [
            (
                view.size_bytes,
                int(view.is_small),
                [
                    number
                    for one in view.blocks
                    for number in (
                        one.size_bytes,
                        int(owner_of[one.block]) if one.block >= 0 else -1,
                    )
                ],
            )
            for view in moment.memory.segments
        ],
    }
