"""Count what shows how the code is organised, and write it into docs/architecture.md: `python scripts/structure.py`.

Modules at the top of the package, import circles, imports against the order of the rooms, the longest function and the
longest file. `--before REVISION` counts an earlier revision as well, and keeps its numbers in docs/structure.json.
"""

import argparse
import ast
import io
import json
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import write_section

from convbench.files import to_json

ROOT = Path(__file__).resolve().parents[1]
COUNTED = ROOT / "docs" / "structure.json"
PAGE = ROOT / "docs" / "architecture.md"
# The rooms of the version before they were given this order, by what they held; for the count of upward imports alone.
EARLIER = (
    "train evaluate compare describe bench doctor runs apply_kernel",
    "cli command_line",
    "sweeps",
    "report timing examine run",
    "build network picture",
    "engine",
    "convs models data logs match",
    "count schema computed",
    "config keys kinds signatures relocate",
    "terminal text seeding",
    "errors",
)


def rooms() -> list[set[str]]:
    """The rooms from the top to the bottom, as the contract in pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return [set(layer.split(" | ")) for layer in layers]


def imports(package: Path) -> dict[str, set[str]]:
    """Name of each module -> the modules of the package that it imports, at any place."""
    modules = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package.name:
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {target if target in modules else node.module for target in targets}
    return found


def circles(graph: dict[str, set[str]]) -> int:
    """The number of groups of modules that import each other, directly or through others."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = 0

    def visit(node: str) -> None:
        nonlocal found
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found += len(members) > 1

    for node in graph:
        if node not in index:
            visit(node)
    return found


def upward(graph: dict[str, set[str]], order: list[set[str]]) -> int:
    """The number of imports from a room to one that is not below it."""
    level = {room: number for number, layer in enumerate(order) for room in layer}
    pairs = ((a.split(".")[1:2], b.split(".")[1:2]) for a, targets in graph.items() for b in targets)
    return sum(level.get(b[0], 99) <= level.get(a[0], -1) for a, b in pairs if a and b and a != b)


def functions(package: Path) -> Iterator[tuple[int, str]]:
    """Length in lines and name of each function."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef):
                yield (node.end_lineno or 0) - node.lineno + 1, f"{path.relative_to(package)}:{node.name}"


def count(package: Path, order: list[set[str]]) -> dict[str, Any]:
    """What is to be said of one state of the package."""
    files = {path: len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    longest = max(files, key=lambda path: files[path])
    lines, function = max(functions(package))
    graph = imports(package)
    return {
        "modules at the top of the package": len([path for path in package.glob("*.py") if path.stem != "__init__"]),
        "of these, commands": len(order[0] & {path.stem for path in package.glob("*.py")} - {"__main__"}),
        "rooms (sub-packages)": len([path for path in package.iterdir() if (path / "__init__.py").exists()]),
        "import circles": circles(graph),
        "imports against the order of the rooms": upward(graph, order),
        "longest function, in lines": f"{lines} ({function})",
        "longest file, in lines": f"{files[longest]} ({longest.relative_to(package)})",
        "lines of Python": sum(files.values()),
    }


def of_revision(revision: str) -> dict[str, Any]:
    """The counts of an earlier revision."""
    archive = subprocess.run(
        ["git", "archive", revision, "convbench"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return count(Path(folder) / "convbench", [set(layer.split()) for layer in EARLIER])


def main() -> None:
    """Count, keep, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision to compare with")
    given = parser.parse_args()
    counted = json.loads(COUNTED.read_text()) if COUNTED.exists() else {}
    if given.before:
        counted["before"] = of_revision(given.before)
    counted["now"] = count(ROOT / "convbench", rooms())
    COUNTED.write_text(to_json(counted, indent=1) + "\n")
    states = [state for state in ("before", "now") if state in counted]
    lines = [f"| | {' | '.join(states)} |", f"| --- |{' ---: |' * len(states)}"]
    lines += [f"| {name} | {' | '.join(str(counted[state][name]) for state in states)} |" for name in counted["now"]]
    write_section(PAGE, "structure", "structure.py", lines)


if __name__ == "__main__":
    main()
