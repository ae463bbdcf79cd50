"""Run in an environment that holds the `trainers` extra alone: training must import."""

import importlib.util

import sightline_trainers.fisao
import sightline_trainers.train_command

assert importlib.util.find_spec("fastapi") is None, "training must not need the service extra"
assert sightline_trainers.fisao.train
assert sightline_trainers.train_command.main
