"""PromQL within dashboards and rules: which metrics and labels it uses. Knows no Prometheus."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rig.chart import Document

TARGET_LABELS = frozenset({"app", "namespace", "release", "component", "pod", "instance", "job"})
"""What the ServiceMonitor and Prometheus add to every series."""
_SELECTOR = re.compile(
    r"\b(?P<metric>(?:sightline|process)[_:][a-z0-9_:]+|up)\b(?:\{(?P<matchers>[^}]*)\})?"
)
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")
_VARIABLE = re.compile(r"\$(?!__)(\w+)")


@dataclass(frozen=True)
class Expression:
    """One query, and where it is."""

    where: str
    text: str

    def selectors(self) -> Iterator[tuple[str, set[str]]]:
        """Each metric with the labels that it is filtered by."""
        for found in _SELECTOR.finditer(self.text):
            matchers = re.findall(r"(\w+)\s*[=!]~?", found["matchers"] or "")
            yield found["metric"], set(matchers)

    def grouping(self) -> set[str]:
        """The labels that it sums up by."""
        groups = ",".join(_GROUPING.findall(self.text))
        return {label.strip() for label in groups.split(",")} - {""}

    def variables(self) -> set[str]:
        """Variables of the dashboard."""
        return set(_VARIABLE.findall(self.text))

    def plain(self) -> str:
        """As PromQL, with Grafana's variables filled in."""
        return _VARIABLE.sub(".*", self.text.replace("$__rate_interval", "1m"))

    def faults(self, exported: dict[str, set[str]]) -> Iterator[str]:
        """Metrics that nothing exports, and labels that they do not have.

        Args:
            exported: labels by metric.
        """
        known = set(TARGET_LABELS)
        for metric, matchers in self.selectors():
            if metric not in exported:
                yield f"{self.where}: nothing exports {metric}"
                continue
            known |= exported[metric]
            if strange := matchers - exported[metric] - TARGET_LABELS:
                yield f"{self.where}: {metric} has no label {sorted(strange)}"
        if strange := self.grouping() - known:
            yield f"{self.where}: sums by {sorted(strange)}, which nothing in it has"


def panels(dashboard: Document) -> Iterator[Document]:
    """Panels that show something."""
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions(dashboard: Document) -> Iterator[Expression]:
    """Every query of a dashboard."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Expression(f"panel {panel['title']!r}", target["expr"])


def rule_expressions(rules: Document) -> Iterator[Expression]:
    """Every expression of a file of rules."""
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield Expression(rule.get("alert") or rule["record"], rule["expr"])


def cells(panel: Document) -> set[tuple[int, int]]:
    """The cells of the grid that a panel covers."""
    grid = panel["gridPos"]
    rows = range(grid["y"], grid["y"] + grid["h"])
    return {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in rows}
