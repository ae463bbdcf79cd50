"""The chart knows the service's settings by the service's own names and types."""

import pytest
from rig.settings_schema import OWNED, chart_schema, settings_schema

from sightline_service.settings import Settings


def test_the_chart_takes_every_setting_but_its_own():
    assert chart_schema()["$defs"]["settings"] == settings_schema(), (
        "run tests/deploy/rig/settings_schema.py"
    )


def test_what_the_chart_keeps_to_itself_is_a_setting():
    assert set(Settings.model_fields) >= OWNED


def closed(schema, path="values"):
    """Every object with properties that takes others as well."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for name, inner in schema.items():
            yield from closed(inner, f"{path}.{name}")


def test_no_misspelt_value_is_taken_at_any_level():
    assert list(closed(chart_schema())) == []


@pytest.mark.parametrize("name", ["models", "reward", "router", "trainer"])
def test_the_large_blocks_are_described(name):
    assert name in chart_schema()["properties"]
