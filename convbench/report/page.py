"""The page of a comparison: one HTML file that holds its style, its script and its data, and asks no network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from convbench.files import to_json, write_text

ASSETS = Path(__file__).with_name("page")
SCRIPTS = ("common.js", "charts.js", "report.js")  # in this order: each uses the ones before it


def write_page(path: Path, data: dict[str, Any]) -> None:
    """Write the page.

    Args:
        path: the file; links to run folders are relative to its folder.
        data: what the page shows, as JSON knows it; None, NaN and infinity are missing values. Its entries:

            - `title`, `made`, `version`, `summary`: lines; `warnings`, `findings`: lists of sentences.
            - `keys`: what varies, the first columns of the table; `columns`: its further columns, each with `key`,
              `title`, `unit`, `help` and `better` (`higher`, `lower` or None).
            - `variants`: each with `label`, `keys`, `cells` (by column: `value` to sort by, `text` to show, `is_best`),
              `color`, `dash` and `marker`, and `runs` with `folder`, `name`, `seed`, `status`, `cells` (texts) and
              `command`.
            - `charts`: each with `id`, `title`, `note`, `x_options` and `y_options` (`key`, `title`, `log`), and either
              `series` (`kind` is `lines`) or `points`: the index of a `variant`, `x` by option, and `y` by option as
              `mean`, `low`, `high`. A point says in `front` for which x options it belongs to the joined ones.
    """
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html").render(
        data, style="report.css", scripts=SCRIPTS, embedded=_embeddable(data)
    )
    write_text(path, page)


def _embeddable(data: dict[str, Any]) -> Markup:
    # neither `</script>` nor `<!--` may end or change the element that holds the data; \u003c is the same to JSON
    return Markup(to_json(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
