"""The version of the installed distribution. Knows packaging only."""

from importlib.metadata import version

VERSION = version("sightline")
