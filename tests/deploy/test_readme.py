"""The chart's README says what values.yaml says, and every value is described."""

import yaml
from rig import values_table


def leaves(value, path=()):
    """Paths of what is no object with keys of its own."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


def test_the_table_is_that_of_the_values():
    text = values_table.README.read_text()
    assert text == values_table.readme(text), "run tests/deploy/rig/values_table.py"


def test_every_value_is_described_itself_or_as_part_of_another():
    known = {path for path, _ in values_table.described()}
    values = yaml.safe_load((values_table.CHART / "values.yaml").read_text())
    for path in leaves(values):
        assert any(path[:length] in known for length in range(1, len(path) + 1)), ".".join(path)


def test_the_chart_carries_the_projects_version():
    chart = yaml.safe_load((values_table.CHART / "Chart.yaml").read_text())
    project = (values_table.CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
