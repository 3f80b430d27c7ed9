"""The line styles of variants in all figures.

Colour, dashes and marker all differ, so that variants can also be distinguished in greyscale.
"""

from dataclasses import dataclass

# The palette of Okabe and Ito, which is also suitable for colour-blind readers, but without its yellow, which is too
# pale for a line.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4")
_MARKERS = ("circle", "square", "triangle", "diamond", "cross")
_MATPLOTLIB_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "X"}


@dataclass(frozen=True)
class LineStyle:
    """The line style of a variant.

    Attributes:
        color: the colour as in CSS.
        dash: the lengths of dashes and gaps as in `stroke-dasharray` of SVG; empty for a solid line.
        marker: the name of the marker, `circle`, `square`, `triangle`, `diamond` or `cross`.
    """

    color: str
    dash: str
    marker: str

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """The `linestyle` for matplotlib, whose lengths are multiples of the line width."""
        return (0, tuple(float(length) / 1.5 for length in self.dash.split())) if self.dash else "-"

    @property
    def matplotlib_marker(self) -> str:
        """The `marker` for matplotlib."""
        return _MATPLOTLIB_MARKERS[self.marker]


def line_style(index: int) -> LineStyle:
    """The line style of the variant with a given index; the styles of the first 35 variants differ."""
    return LineStyle(_COLORS[index % len(_COLORS)], _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)])
