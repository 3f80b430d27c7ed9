"""Generated sections of Markdown pages: scripts write the text between two marks, which must not be edited by hand."""

from collections.abc import Sequence
from pathlib import Path


def write_section(page: Path, section: str, script: str, lines: Sequence[str]) -> None:
    """Replace the lines between `<!-- SECTION: scripts/SCRIPT -->` and `<!-- end of SECTION -->`.

    Raises:
        SystemExit: The page does not contain both marks.
    """
    begin, end = f"<!-- {section}: scripts/{script} -->", f"<!-- end of {section} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} does not contain the marks {begin} and {end}")
    page.write_text("\n".join([before + begin, "", *lines, "", end]) + after)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table whose first `left` columns are aligned to the left, and the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
