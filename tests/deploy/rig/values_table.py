"""The table of values in the chart's README, made from the comments of values.yaml.

Knows the comments that begin with "# --", as helm-docs does.
`python tests/deploy/rig/values_table.py` writes the table anew.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "charts/sightline"
README = CHART / "README.md"
BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):")
_KINDS = {bool: "bool", int: "int", float: "float", str: "string", list: "list", dict: "object"}


def described() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each value that a comment describes: its path and the comment."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in (CHART / "values.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("# --"):
            comment = [text.removeprefix("# --").strip()]
        elif text.startswith("#") and comment:
            comment.append(text.removeprefix("#").strip())
        elif found := _KEY.match(line):
            indent = len(found["indent"])
            path = [(i, k) for i, k in path if i < indent] + [(indent, found["key"])]
            if comment:
                yield tuple(key for _, key in path), " ".join(comment)
            comment = []
        else:
            comment = []


def table() -> str:
    """The table in Markdown."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| value | type | default | what it is |", "|---|---|---|---|"]
    for path, comment in described():
        value: Any = values
        for key in path:
            value = value[key]
        shown = json.dumps(value).replace("|", r"\|")
        default = f"`{shown}`" if len(shown) <= 60 else "see values.yaml"
        rows.append(f"| `{'.'.join(path)}` | {_KINDS[type(value)]} | {default} | {comment} |")
    return "\n".join(rows) + "\n"


def readme(text: str) -> str:
    """A README with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(readme(README.read_text()))
