"""A memory profile as a table for a terminal."""

from __future__ import annotations

import math
from typing import Final

from gpu_optimizer.memory_profile import Amounts, LayerMemory, MemoryProfile
from gpu_optimizer.units import format_bytes

_N_LAYERS: Final = 20
_SOURCES: Final = {
    "metadata": "the allocator's history, tagged by itself",
    "memory_stats": "the allocator's history, tagged by its counters (this PyTorch has no tags)",
    "dispatch": "operators on the CPU, placed as PyTorch's CUDA allocator would",
}


def profile_text(profile: MemoryProfile, n_layers: int = _N_LAYERS) -> str:
    """Return the most of a profile that fits a screen.

    Parameters
    ----------
    n_layers : int
        Layers that are shown, the largest first.
    """
    waste = next(
        (m.memory.fragmentation.waste for m in profile.moments if m.event == profile.peak_event),
        math.nan,
    )
    rows = [
        ("peak allocated", format_bytes(profile.peak_bytes)),
        ("peak reserved", format_bytes(profile.peak_reserved_bytes)),
        ("peak is in", profile.peak_phase or "no event"),
        ("waste at the peak", "not measured" if math.isnan(waste) else f"{waste:.1%} of reserved"),
        ("at the start", format_bytes(profile.start_bytes)),
        ("at the end", format_bytes(profile.end_bytes)),
        ("events", str(len(profile.trace.events))),
        ("source", f"{profile.trace.source}: {_SOURCES[profile.attribution]}"),
    ]
    parts = [
        "\n".join(f"{name:<18} {value}" for name, value in rows),
        "at the peak, by category\n" + _amounts(profile.by_category),
        _phases(profile),
        _layers(profile.layers, n_layers),
    ]
    return "\n\n".join([*parts, *warnings_of(profile)])


def warnings_of(profile: MemoryProfile) -> list[str]:
    """Return what a reader must know before trusting the figures, a sentence each."""
    told = []
    if profile.n_lost:
        told.append(
            f"{profile.n_lost} events were lost because the history is bounded: raise "
            "max_entries, or trace fewer steps; the figures are of what is left"
        )
    told += [
        f"{count} records were left out: {cause}"
        for cause, count in profile.trace.dropped
        if not profile.n_lost
    ]
    if profile.error:
        told.append(f"the program ended with {profile.error}: this is what was traced before")
    if profile.out_of_memory is not None:
        told.append(f"out of memory: {profile.out_of_memory.sentence()}")
        told += [
            f"would have to go: {name}, {format_bytes(size)}"
            for name, size in profile.out_of_memory.would_have_to_go
        ]
    return told


def _amounts(totals: Amounts) -> str:
    return "\n".join(f"  {format_bytes(size):>12}  {name}" for name, size in totals) or "  nothing"


def _phases(profile: MemoryProfile) -> str:
    lines = [f"{'phase':<12}{'peak':>12}{'retained':>12}{'allocations':>13}"]
    lines += [
        f"{p.name:<12}{format_bytes(p.peak_bytes):>12}{format_bytes(p.retained_bytes):>12}"
        f"{p.n_allocations:>13}"
        for p in profile.phases
    ]
    return "\n".join(lines)


def _layers(layers: tuple[LayerMemory, ...], n_layers: int) -> str:
    lines = [f"{'at peak':>12}{'own peak':>12}  layer"]
    lines += [_layer_line(row) for row in layers[:n_layers]]
    rest = layers[n_layers:]
    if rest:
        size = format_bytes(sum(row.at_peak_bytes for row in rest))
        lines.append(f"{size:>12}{'':>12}  {len(rest)} others")
    total = format_bytes(sum(row.at_peak_bytes for row in layers))
    return "\n".join([*lines, f"{total:>12}{'':>12}  all layers"])


def _layer_line(row: LayerMemory) -> str:
    sizes = f"{format_bytes(row.at_peak_bytes):>12}{format_bytes(row.own_peak_bytes):>12}"
    return f"{sizes}  {row.module}"
