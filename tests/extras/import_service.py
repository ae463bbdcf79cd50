"""Run in an environment that holds the `service` extra alone: the service must import and build."""

import importlib.util

import sightline_service.__main__
import sightline_service.app
import sightline_service.models.load

assert importlib.util.find_spec("matplotlib") is None, "the service must not need the eval extra"
assert sightline_service.__main__.main
assert sightline_service.app.create_app
assert sightline_service.models.load.load_similarity
