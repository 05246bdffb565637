"""The settings of PyTorch's caching allocator, as in ``PYTORCH_CUDA_ALLOC_CONF``.

The keys, their limits and the rounding are those of PyTorch 2.11: ``c10/core/AllocatorConfig.cpp``
and ``round_size`` and ``get_allocation_size`` in ``c10/cuda/CUDACachingAllocator.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

MIB: Final = 2**20
MIN_BLOCK_BYTES: Final = 512
"""Every size is a multiple of it."""
SMALL_BYTES: Final = MIB
"""A request of at most this, rounded, is small."""
SMALL_SEGMENT_BYTES: Final = 2 * MIB
MIN_OWN_SEGMENT_BYTES: Final = 10 * MIB
"""From here on a request gets a segment of its own size."""
ROUND_SEGMENT_BYTES: Final = 2 * MIB
N_INTERVALS: Final = 16
"""Sizes from 1 MiB to 64 GiB by powers of two, each with its number of divisions."""

_ITEM: Final = re.compile(r"\s*([a-z_0-9]+)\s*:\s*(\[[^\]]*\]|[^,\[\]\s]*)\s*")
_OTHER_KEYS: Final = frozenset(
    {
        "release_lock_on_cudamalloc",
        "pinned_use_cuda_host_register",
        "pinned_num_register_threads",
        "pinned_use_background_threads",
        "pinned_reserve_segment_size_mb",
        "graph_capture_record_stream_reuse",
    }
)
"""Known to PyTorch, and without effect on how device memory is laid out."""


@dataclass(frozen=True, slots=True)
class AllocatorConfig:
    """How the caching allocator rounds, splits and returns memory.

    Attributes
    ----------
    expandable_segments : bool
        Whether segments grow page by page instead of being allocated whole.
    max_split_size_mb : int or None
        Blocks of at least this many MiB are not split, at least `large_segment_size_mb`; None for
        no limit.
    max_non_split_rounding_mb : int or None
        By how many MiB a block that is not split must at most exceed a request that it serves; None
        for `large_segment_size_mb`.
    roundup_power2_divisions : tuple of 16 int
        Of the sizes from 1 MiB on, by powers of two: into how many steps each is divided, a power
        of two; 0 or 1 rounds to 512 bytes. The first serves all smaller sizes too.
    garbage_collection_threshold : float
        Share of the limit, above 0 and below 1, from which unused blocks are returned; 0 for never.
    large_segment_size_mb : int
        Segment of requests from 1 MiB to 10 MiB.
    per_process_memory_fraction : float
        Share of the card's memory, above 0, at most 1, that may be reserved. A replay knows no
        card: its `limit_bytes` is this share of one.

    Raises
    ------
    ValueError
        If a value is not one of these.
    """

    expandable_segments: bool = False
    max_split_size_mb: int | None = None
    max_non_split_rounding_mb: int | None = None
    roundup_power2_divisions: tuple[int, ...] = (0,) * N_INTERVALS
    garbage_collection_threshold: float = 0.0
    large_segment_size_mb: int = 20
    per_process_memory_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.large_segment_size_mb <= 10:
            raise _refusal("large_segment_size_mb", self.large_segment_size_mb, "above 10")
        least = self.large_segment_size_mb
        if self.max_split_size_mb is not None and self.max_split_size_mb < least:
            raise _refusal("max_split_size_mb", self.max_split_size_mb, f"at least {least}")
        rounding = self.max_non_split_rounding_mb
        if rounding is not None and rounding < least:
            raise _refusal("max_non_split_rounding_mb", rounding, f"at least {least}")
        divisions = self.roundup_power2_divisions
        if len(divisions) != N_INTERVALS or any(n < 0 or n & (n - 1) for n in divisions):
            raise _refusal("roundup_power2_divisions", divisions, "16 times 0 or a power of two")
        if not 0 <= self.garbage_collection_threshold < 1:
            raise _refusal(
                "garbage_collection_threshold",
                self.garbage_collection_threshold,
                "above 0 and below 1",
            )
        if not 0 < self.per_process_memory_fraction <= 1:
            raise _refusal(
                "per_process_memory_fraction",
                self.per_process_memory_fraction,
                "above 0 and at most 1",
            )

    @classmethod
    def parse(cls, text: str) -> AllocatorConfig:
        """Return what a value of ``PYTORCH_CUDA_ALLOC_CONF`` or ``PYTORCH_ALLOC_CONF`` sets.

        Parameters
        ----------
        text : str
            ``"expandable_segments:True,roundup_power2_divisions:[256:1,>:4]"``; empty for the
            defaults.

        Raises
        ------
        ValueError
            If a key is unknown or a value is not allowed; it names both.

        Examples
        --------
        >>> AllocatorConfig.parse("max_split_size_mb:128").max_split_size_mb
        128
        """
        values = {key: _value(key, value) for key, value in _items(text)}
        return cls(**{key: value for key, value in values.items() if key in _KEYS})  # type: ignore[arg-type]

    def to_text(self) -> str:
        """Return the text that `parse` reads, with only what is not the default."""
        default = AllocatorConfig()
        items = []
        for key in _KEYS:
            value = getattr(self, key)
            if value != getattr(default, key):
                items.append(
                    f"{key}:{_divisions_text(value) if isinstance(value, tuple) else value}"
                )
        return ",".join(items)

    @property
    def max_split_bytes(self) -> int | None:
        """`max_split_size_mb` in bytes."""
        return None if self.max_split_size_mb is None else self.max_split_size_mb * MIB

    @property
    def max_non_split_rounding_bytes(self) -> int:
        """`max_non_split_rounding_mb` in bytes."""
        return (self.max_non_split_rounding_mb or self.large_segment_size_mb) * MIB

    @property
    def page_bytes(self) -> int:
        """What an expandable segment of large blocks grows by."""
        return self.large_segment_size_mb * MIB

    def block_bytes(self, n_bytes: int) -> int:
        """Return the size of the block that serves a request of so many bytes, at least 1."""
        if n_bytes < MIN_BLOCK_BYTES:
            return MIN_BLOCK_BYTES
        interval = min(max(n_bytes.bit_length() - 21, 0), N_INTERVALS - 1)
        divisions = self.roundup_power2_divisions[interval]
        if divisions > 1 and n_bytes > MIN_BLOCK_BYTES * divisions:
            step = (1 << (n_bytes.bit_length() - 1)) // divisions
            return -(-n_bytes // step) * step
        return -(-n_bytes // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES

    def segment_bytes(self, block_bytes: int) -> int:
        """Return the size of the segment that is allocated for a block of this size."""
        if block_bytes <= SMALL_BYTES:
            return SMALL_SEGMENT_BYTES
        if block_bytes < MIN_OWN_SEGMENT_BYTES:
            return self.page_bytes
        return -(-block_bytes // ROUND_SEGMENT_BYTES) * ROUND_SEGMENT_BYTES


_KEYS: Final = tuple(field.name for field in fields(AllocatorConfig))


def _refusal(key: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{key} must be {allowed}, got {value}")


def _items(text: str) -> list[tuple[str, str]]:
    """Return the keys and values of a text as they are written."""
    items = []
    position = 0
    while position < len(text.rstrip()):
        match = _ITEM.match(text, position)
        end = match.end() if match else position
        if match is None or text[end : end + 1] not in {"", ","}:
            raise ValueError(
                f"allocator settings are 'key:value' with commas between, got {text[position:]!r}"
            )
        if match[1] not in _KEYS and match[1] not in _OTHER_KEYS and match[1] != "backend":
            allowed = ", ".join(sorted({*_KEYS, *_OTHER_KEYS, "backend"}))
            raise ValueError(f"unknown allocator setting {match[1]!r}; known are {allowed}")
        items.append((match[1], match[2]))
        position = end + 1
    return items


def _value(key: str, text: str) -> bool | int | float | tuple[int, ...] | str:
    """Return the value of a key; the class checks its range."""
    if key == "backend" and text != "native":
        raise _refusal(key, repr(text), "'native', the only one that is replayed")
    if key == "expandable_segments":
        if text not in {"True", "False"}:
            raise _refusal(key, repr(text), "True or False")
        return text == "True"
    if key == "roundup_power2_divisions":
        return _divisions(text)
    if key in {"garbage_collection_threshold", "per_process_memory_fraction"}:
        try:
            number = float(text)
        except ValueError:
            raise _refusal(key, repr(text), "a number above 0 and at most 1") from None
        if number == 0:
            raise _refusal(key, repr(text), "above 0")
        return number
    return _whole(key, text) if key.endswith("_mb") else text


def _whole(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _refusal(key, repr(text), "a whole number")
    return int(text)


def _divisions(text: str) -> tuple[int, ...]:
    """Return the divisions of every interval from one number or a list of ``MiB:divisions``."""
    key = "roundup_power2_divisions"
    if not text.startswith("["):
        if _whole(key, text) == 0:
            raise _refusal(key, text, "a power of two, or a list in which 0 disables it")
        return (_whole(key, text),) * N_INTERVALS
    divisions = [0] * N_INTERVALS
    filled = 1
    is_first = True
    for pair in text[1:-1].split(","):
        start, colon, number = (part.strip() for part in pair.partition(":"))
        if not colon:
            raise _refusal(key, repr(text), "a number or [MiB:divisions, ..., >:divisions]")
        n_divisions = _whole(key, number)
        if start == ">":
            divisions[filled:] = [n_divisions] * (N_INTERVALS - filled)
            continue
        size_mb = _whole(key, start)
        if size_mb < 1 or size_mb & (size_mb - 1):
            raise _refusal(key, repr(start), "given for sizes in MiB that are powers of two")
        interval = min(size_mb.bit_length() - 1, N_INTERVALS - 1)
        first = 0 if is_first else interval
        divisions[first : interval + 1] = [n_divisions] * (interval + 1 - first)
        filled, is_first = interval + 1, False
    return tuple(divisions)


def _divisions_text(divisions: tuple[int, ...]) -> str:
    pairs = ",".join(f"{2**interval}:{number}" for interval, number in enumerate(divisions))
    return f"[{pairs}]"
