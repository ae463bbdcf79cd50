import subprocess
import sys

import pytest

import sightline


def test_the_public_names_are_sorted_and_exist():
    assert sightline.__all__ == sorted(sightline.__all__)
    assert all(hasattr(sightline, name) for name in sightline.__all__)


@pytest.mark.parametrize("module", ["sightline", "sightline.score_command"])
def test_importing_brings_in_no_heavy_package(module):
    code = (
        f"import {module}, sightline.cli, sys; "
        "heavy = {'torch', 'transformers', 'fastapi', 'open_clip', "
        "'numpy', 'inflect', 'sightline_service', 'sightline_eval', 'sightline_world'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
