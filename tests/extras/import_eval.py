"""Run in an environment that holds the `eval` extra alone: metrics and calibration must import."""

import importlib.util

import sightline_eval.calibrate_command
import sightline_eval.chair
import sightline_world.captioner

assert importlib.util.find_spec("fastapi") is None, "eval must not need the service extra"
assert sightline_eval.chair
assert sightline_eval.calibrate_command.main
assert sightline_world.captioner
