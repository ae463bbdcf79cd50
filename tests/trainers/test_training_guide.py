"""docs/training.md says what there is: recipes, fields, files."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

import sightline_trainers
from sightline_trainers import runs
from sightline_trainers.configuration import read_config
from sightline_trainers.train_command import METHODS

GUIDE = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
PACKAGE = Path(sightline_trainers.__file__).parent
SHELL = " ".join(re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)).replace("\\\n", " ")
NAMES = "|".join(METHODS)
COMMANDS = re.findall(rf"(?:sightline train|-m sightline_trainers) ((?:{NAMES}) .*)", SHELL)


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_flags_are_fields(command):
    method, _, recipe, *flags = shlex.split(command.partition("#")[0])
    given = [word for word in flags if word not in ("..", "--resume")]
    kind = importlib.import_module(METHODS[method]).Config
    read_config(kind, PACKAGE / "recipes" / recipe, given)


def test_every_recipe_is_named_and_none_else():
    table = GUIDE[GUIDE.index("| recipe |") : GUIDE.index("Each names at its top")]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == {path.stem for path in (PACKAGE / "recipes").glob("*.yaml")}


def test_what_may_change_in_a_resumed_run_is_listed():
    sentence = re.search(r"may not change in between; (.*?) may:", GUIDE, re.DOTALL)
    assert sentence
    assert set(re.findall(r"`(\w+)`", sentence[1])) == set(runs._FREE)


def test_the_configuration_of_accelerate_is_where_the_guide_says():
    [path] = set(re.findall(r"--config_file (\S+)", SHELL))
    assert (PACKAGE / "recipes" / path).resolve() == PACKAGE / "accelerate/ddp.yaml"
