"""Text and panels rendered once, pasted many times.

Smooth letters cost 0.1 to 0.7 ms a line at 1080p, more than the whole skeleton. What is drawn
again and again is therefore kept as a `Sprite`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np

from pose_analyzer.types import ImageArray

Color = tuple[int, int, int]
"""Blue, green, red, 0 to 255 each."""

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_PLAIN_SIGNS: Final = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"})
_DEGREE: Final = "°"
_CACHED_TEXTS: Final = 256


@dataclass(frozen=True, slots=True)
class Sprite:
    """A small translucent picture: pasting makes ``background * gain / 255 + light``.

    Attributes
    ----------
    gain, light : uint8 array, shape (H, W, 3)
        What is kept of the background, and what is added to it.
    """

    gain: ImageArray
    light: ImageArray

    @classmethod
    def of(cls, width: int, height: int, paint: Callable[[ImageArray], None]) -> Sprite:
        """Return what ``paint`` draws, whatever it does, as long as it blends linearly.

        Painting the same on black and on white tells light and gain apart.
        """
        on_black = np.zeros((height, width, 3), np.uint8)
        on_white = np.full((height, width, 3), 255, np.uint8)
        paint(on_black)
        paint(on_white)
        return cls(cv2.subtract(on_white, on_black).astype(np.uint8, copy=False), on_black)

    def paste(self, image: ImageArray, left: int, top: int) -> None:
        """Paste it in place; what lies outside the picture is cut off."""
        height, width = self.gain.shape[:2]
        x0, y0 = max(0, left), max(0, top)
        x1, y1 = min(image.shape[1], left + width), min(image.shape[0], top + height)
        if x0 >= x1 or y0 >= y1:
            return
        region = image[y0:y1, x0:x1]
        inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        cv2.multiply(region, self.gain[inner], dst=region, scale=1.0 / 255.0)
        cv2.add(region, self.light[inner], dst=region)

    def faded(self, strength: float) -> Sprite:
        """Return it with less effect: 1 is unchanged, 0 is invisible."""
        gain = 255.0 - (255.0 - self.gain) * strength
        return Sprite(
            np.rint(gain).astype(np.uint8), np.rint(self.light * strength).astype(np.uint8)
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text ready to be drawn.

    Attributes
    ----------
    text : str
        Signs that the font lacks become ``?``; a degree sign may end it.
    scale : float
        1 is a capital 22 pixels high.
    weight : int
        Thickness of the strokes in pixels.
    color : tuple of int
        Blue, green, red.
    outline : int
        Width of a dark rim in pixels; 0 for none.
    """

    text: str
    scale: float
    weight: int
    color: Color
    outline: int = 0

    @property
    def width(self) -> int:
        """Pixels from the start of the first letter to the end of the last sign."""
        (width, _), _ = cv2.getTextSize(self._letters, _FONT, self.scale, self.weight)
        return int(width) + (round(13 * self.scale) if self.text.endswith(_DEGREE) else 0)

    @property
    def height(self) -> int:
        """Pixels of a capital."""
        return round(22 * self.scale)

    def draw(self, image: ImageArray, left: int, baseline: int) -> None:
        """Draw it in place, its letters standing on ``baseline``."""
        margin = self._margin
        _text_sprite(self).paste(image, left - margin, baseline - self.height - margin)

    @property
    def _margin(self) -> int:
        """Room around the letters for tails, rims and strokes that lean out."""
        return round(10 * self.scale) + self.weight + self.outline

    @property
    def _letters(self) -> str:
        plain = self.text.removesuffix(_DEGREE).translate(_PLAIN_SIGNS)
        return plain.encode("ascii", "replace").decode("ascii")

    def render(self) -> Sprite:
        """Return it as a sprite whose baseline starts one margin inside."""
        margin = self._margin
        return Sprite.of(self.width + 2 * margin, self.height + 2 * margin, self._paint)

    def _paint(self, image: ImageArray) -> None:
        if self.outline > 0:
            self._stroke(image, (20, 20, 20), self.weight + 2 * self.outline)
        self._stroke(image, self.color, self.weight)

    def _stroke(self, image: ImageArray, color: Color, weight: int) -> None:
        margin = self._margin
        origin = (margin, margin + self.height)
        cv2.putText(image, self._letters, origin, _FONT, self.scale, color, weight, cv2.LINE_AA)
        if self.text.endswith(_DEGREE):
            # The font has no degree sign.
            radius = max(1, round(4.5 * self.scale))
            center = (margin + self.width - radius - 1, margin + radius)
            cv2.circle(image, center, radius, color, weight, cv2.LINE_AA)


@lru_cache(maxsize=_CACHED_TEXTS)
def _text_sprite(text: Text) -> Sprite:
    return text.render()


def shade(box: ImageArray, radius: int, keep: float) -> None:
    """Darken a rectangle with round corners to ``keep`` of its light, in place."""
    height, width = box.shape[:2]
    radius = min(radius, height // 2, width // 2)
    y = np.maximum(0, radius - 0.5 - np.minimum(np.arange(height), np.arange(height)[::-1]))
    x = np.maximum(0, radius - 0.5 - np.minimum(np.arange(width), np.arange(width)[::-1]))
    cover = np.clip(radius - np.hypot(y[:, None], x[None, :]), 0.0, 1.0)
    box[:] = np.rint(box * (1.0 - cover * (1.0 - keep))[:, :, None]).astype(np.uint8)
