"""Run in an environment that holds the SDK alone: it must import, and must not need torch."""

import importlib.util
import sys

import sightline
import sightline.cli
import sightline_core
import sightline_proto

for heavy in ("torch", "transformers", "open_clip", "fastapi"):
    assert importlib.util.find_spec(heavy) is None, f"{heavy} came with the SDK"
    assert heavy not in sys.modules
assert sightline.RewardClient
assert sightline_core
assert sightline_proto.ENDPOINTS
assert sightline.cli.main(["--version"]) == 0
