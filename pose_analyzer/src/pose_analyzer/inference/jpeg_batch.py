"""The JPEG files among the frames of a batch, decoded by what is fastest on this machine."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from pose_analyzer.inference.jpeg import (
    Decoded,
    DecodedJpeg,
    JpegDecoder,
    ReadyFrame,
    choose_jpeg_decoder,
)
from pose_analyzer.types import AnyFrame, Frame, JpegFrame

logger = logging.getLogger(__name__)

_SAMPLE: Final = 4
"""Files that decoders are compared on, at least: as many as a few streams send (chosen by us)."""


class JpegBatchDecoder:
    """Decodes what of a batch is JPEG.

    Which decoder is fastest is measured with the files of the first batch that has any, which
    takes that batch as long as a dozen others.

    Parameters
    ----------
    decoders : sequence of JpegDecoder
        At least one; closed with this.
    use : callable, optional
        What is done with the pictures, so that the way to the GPU counts in the comparison.
    """

    def __init__(
        self, decoders: Sequence[JpegDecoder], use: Callable[[Decoded], object] = len
    ) -> None:
        self._decoders = decoders
        self._use = use
        self._chosen = decoders[0] if len(decoders) == 1 else None

    @property
    def chosen(self) -> str | None:
        """The name of the decoder that is used; None before it was chosen."""
        return None if self._chosen is None else self._chosen.name

    def decode(self, frames: Sequence[AnyFrame]) -> list[ReadyFrame | None]:
        """Return the frames in order, decoded; None where a JPEG is none."""
        files = [frame.data for frame in frames if isinstance(frame, JpegFrame)]
        if not files:
            return [frame for frame in frames if isinstance(frame, Frame)]
        if self._chosen is None:
            self._choose(files)
        decoder = self._decoders[0] if self._chosen is None else self._chosen
        pictures: Iterator[DecodedJpeg | None] = iter(decoder.decode(files))
        return [
            frame if isinstance(frame, Frame) else _ready(frame, next(pictures)) for frame in frames
        ]

    def close(self) -> None:
        """Free what the decoders hold."""
        for decoder in self._decoders:
            decoder.close()

    def _choose(self, files: Sequence[bytes]) -> None:
        """Compare the decoders, if there is a file that can be decoded."""
        found = self._decoders[0].decode(files)
        good = [data for data, picture in zip(files, found, strict=True) if picture is not None]
        if good:
            sample = list(itertools.islice(itertools.cycle(good), max(_SAMPLE, len(good))))
            self._chosen = choose_jpeg_decoder(self._decoders, sample, self._use)


def _ready(frame: JpegFrame, found: DecodedJpeg | None) -> ReadyFrame | None:
    """Return a picture as a frame, if it is one like any other."""
    if found is None or found.scale != 1 or not isinstance(found.picture, np.ndarray):
        return found
    return Frame(found.picture, frame.time_s, frame.index)
