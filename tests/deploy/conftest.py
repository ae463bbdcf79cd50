"""Makes the rig importable, and says what brings the tools."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure() -> None:
    """Stops a run that was not started by the verb that brings the tools."""
    if importlib.util.find_spec("helm_python") is None:
        raise pytest.UsageError("tests/deploy needs its tools: make test-deploy")
