"""How variants are told apart in all figures: colour, dashes and markers at once, so that grey will do as well."""

from dataclasses import dataclass

# Okabe and Ito's palette, which all kinds of colour vision tell apart; its yellow, too pale for a line, left out.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4")
_MARKERS = ("circle", "square", "triangle", "diamond", "cross")
_MATPLOTLIB = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X"}


@dataclass(frozen=True)
class LineStyle:
    """Of a variant.

    Attributes:
        color: as in CSS.
        dash: lengths of strokes and gaps, as in SVG; empty for a solid line.
        marker: `circle`, `square`, `triangle`, `diamond` or `cross`.
    """

    color: str
    dash: str
    marker: str

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """For matplotlib, whose dashes are in widths of the line."""
        return (0, tuple(float(length) / 1.5 for length in self.dash.split())) if self.dash else "-"

    @property
    def matplotlib_marker(self) -> str:
        """For matplotlib."""
        return _MATPLOTLIB[self.marker]


def line_style(index: int) -> LineStyle:
    """Of the variant of that number; the first 35 differ."""
    return LineStyle(_COLORS[index % len(_COLORS)], _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)])
