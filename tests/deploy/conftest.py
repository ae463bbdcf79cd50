"""Makes the rig importable, and leaves out the tests whose tools are not there.

`make test-deploy` brings the tools; the default suite runs what needs none.
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

NEEDS_NO_TOOL = {"test_images.py", "test_readme.py", "test_settings.py"}
if importlib.util.find_spec("helm_python") is None:
    collect_ignore = [
        path.name for path in HERE.glob("test_*.py") if path.name not in NEEDS_NO_TOOL
    ]
