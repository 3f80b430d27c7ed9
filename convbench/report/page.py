"""The page of a comparison: one HTML file with its styles, scripts and data, which makes no network requests."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from convbench.files import to_json, write_text

ASSETS = Path(__file__).with_name("page")
SCRIPTS = ("common.js", "charts.js", "report.js")  # in this order, as each script uses the previous ones


def write_page(path: Path, data: dict[str, Any]) -> None:
    """Write the page.

    Args:
        path: the file to write; links to run folders are relative to its folder.
        data: the content of the page as JSON values; None, NaN and infinity are missing values. Its entries:

            - `title`, `made`, `version`, `summary`: lines of text; `warnings`, `findings`: lists of sentences.
            - `keys`: the keys that vary, the first columns of the table; `columns`: the further columns, each with
              `key`, `title`, `unit`, `help` and `better` (`higher`, `lower` or None).
            - `variants`: each with `label`, `keys`, `cells` (column -> `value` to sort by, `text` to show, `is_best`),
              `color`, `dash` and `marker`, and `runs` with `folder`, `name`, `seed`, `status`, `cells` (texts) and
              `command`.
            - `charts`: each with `id`, `title`, `kind`, `note`, `x_options` and `y_options` (`key`, `title`, `log`),
              and either `series` (if `kind` is `lines`) or `points`. An item of both has the index of a `variant`, `x`
              (option -> value) and `y` (option -> `mean`, `low`, `high`). The `front` of a point (option -> bool)
              tells for which x options it is on the Pareto front, whose points are joined by a line.
    """
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html").render(
        data, style="report.css", scripts=SCRIPTS, embedded=_embeddable(data)
    )
    write_text(path, page)


def _embeddable(data: dict[str, Any]) -> Markup:
    # A `</script>` or `<!--` in the data would end or change the script element. In JSON, \u003c is the same as `<`.
    return Markup(to_json(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
