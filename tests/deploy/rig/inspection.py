"""All that is checked of a chart without a cluster, in one list. Knows the checks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from rig import chart, hardening, schemas
from rig.references import References

BROUGHT = {
    "default": frozenset({"Secret/sightline-keys"}),
    "gpu": frozenset(
        {
            "Secret/sightline-keys",
            "Secret/registry",
            "Secret/hub-token",
            "PersistentVolumeClaim/instruct",
        }
    ),
    "single": frozenset(),
}
"""What the values name and their user brings."""


def faults(
    values: Mapping[str, Any], brought: frozenset[str], path: Path = chart.CHART
) -> Iterator[str]:
    """Lints, renders, validates and cross-checks the chart with one set of values."""
    yield from (f"lint: {fault}" for fault in chart.lint(values, path))
    try:
        found = chart.objects(values, path)
    except (chart.ChartError, yaml.YAMLError) as error:
        yield f"render: {error}"
        return
    for version in schemas.VERSIONS:
        yield from (f"schema {version}: {fault}" for fault in schemas.faults(found, version))
    yield from (f"reference: {fault}" for fault in References(found, brought).faults())
    yield from (f"promise: {fault}" for fault in hardening.faults(found))
