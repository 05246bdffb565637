"""The page of a report: its blocks, as Markdown and as HTML."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs of Markdown."""

    text: str

    def markdown(self) -> str:
        """Return the block as Markdown."""
        return self.text

    def html(self) -> str:
        """Return the block as HTML."""
        return _paragraphs(self.text)


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Json]]
    text: str

    def markdown(self) -> str:
        """Return the block as Markdown."""
        lines = [f"## {self.title}", *([self.text] if self.text else [])]
        rows = [[cell_text(cell) for cell in row] for row in self.rows]
        return "\n\n".join([*lines, markdown_table(self.columns, rows)])

    def html(self) -> str:
        """Return the block as HTML."""
        rows = [[cell_text(cell) for cell in row] for row in self.rows]
        head = f"<h2>{html.escape(self.title)}</h2>{_paragraphs(self.text)}"
        return head + html_table(self.columns, rows)


@dataclass(frozen=True, slots=True)
class Figure:
    """A titled picture."""

    title: str
    file: str
    png: bytes

    def markdown(self) -> str:
        """Return the block as Markdown."""
        return f"## {self.title}\n\n![{self.title}]({self.file})"

    def html(self) -> str:
        """Return the block as HTML."""
        title = html.escape(self.title, quote=True)
        data = base64.b64encode(self.png).decode()
        return f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{data}">'


Block: TypeAlias = Text | Table | Figure


def cell_text(value: Json) -> str:
    """Return a value as a reader wants it: four significant digits, no exponent for plain sizes."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; bars and line breaks within cells are made harmless."""

    def line(cells: Sequence[str]) -> str:
        clean = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
        return f"| {' | '.join(clean)} |"

    return "\n".join([line(columns), "|" + " --- |" * len(columns), *map(line, rows)])


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table that scrolls by itself where it is wide."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return f"<div class=wide><table>{line('th', columns)}\n{body}</table></div>"


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{_inline(part)}</p>" for part in re.split(r"\n\s*\n", text) if part)


def _inline(text: str) -> str:
    """Return escaped text in which `code` and **bold** are marked up."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped)


PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }}
.meta {{ opacity: .75; font-size: .9rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ border-bottom: 1px solid #8886; padding: .3rem .7rem; text-align: left; }}
td {{ font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; background: #fff; }}
</style></head><body>
{body}
</body></html>
"""
