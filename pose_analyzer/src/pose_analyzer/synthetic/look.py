"""How a synthetic person looks: colours of skin, hair and clothes. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of one drawn person, each blue, green, red in 0..255.

    Attributes
    ----------
    skin, hair, shirt, shorts, socks, shoes, soles : tuple of int
        Colours under full light; the renderer shades them.
    """

    skin: Colour = (128, 164, 214)
    hair: Colour = (28, 38, 54)
    shirt: Colour = (172, 92, 38)
    shorts: Colour = (58, 50, 46)
    socks: Colour = (228, 228, 228)
    shoes: Colour = (48, 66, 214)
    soles: Colour = (236, 236, 240)


LOOKS: Final = (
    Look(),
    Look(skin=(74, 104, 156), hair=(18, 18, 22), shirt=(70, 70, 196), shorts=(40, 40, 40)),
    Look(skin=(140, 178, 226), hair=(60, 110, 160), shirt=(90, 140, 60), shorts=(110, 70, 40)),
    Look(skin=(58, 80, 120), hair=(14, 14, 16), shirt=(40, 170, 220), shoes=(200, 200, 200)),
)
"""Ready-made looks, so that people in one picture differ."""
