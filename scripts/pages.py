"""Pages with generated sections: what stands between two marks is written by a script, never by hand."""

from collections.abc import Sequence
from pathlib import Path


def write_section(page: Path, section: str, script: str, lines: Sequence[str]) -> None:
    """Replace what stands between `<!-- SECTION: scripts/SCRIPT -->` and `<!-- end of SECTION -->`."""
    begin, end = f"<!-- {section}: scripts/{script} -->", f"<!-- end of {section} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has lost its marks {begin} and {end}")
    page.write_text("\n".join([before + begin, "", *lines, "", end]) + after)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table whose columns after the first `left` are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
