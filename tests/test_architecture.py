"""The house's rules as tests: sizes, names, roots, first lines. Knows files, not behaviour."""

import ast
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("core", "proto", "services", "clients", "world", "benchmarks")
MODULES = sorted(path for root in SOURCE_ROOTS for path in (ROOT / root).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "base"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body
    if ast.get_docstring(function):
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_there_is_something_to_check():
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_and_so_are_its_functions(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for function in functions(ast.parse(text)):
        assert length(function) <= 60, f"{name(path)}:{function.lineno} {function.name}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_first_what_it_knows(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert re.search(r"\bknows?\b", docstring, re.IGNORECASE), docstring.splitlines()[0]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_named_after_a_noun_and_not_a_drawer(path):
    assert path.stem not in DRAWERS
    assert not path.stem.startswith("base_")


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_not_a_package(root):
    assert not (ROOT / root / "__init__.py").exists()


def test_only_settings_and_configuration_read_the_environment():
    readers = {name(path) for path in MODULES if re.search(r"os\.environ|getenv", path.read_text())}
    assert readers <= {
        "benchmarks/sightline_bench/process.py",
        "clients/sightline/config.py",
        "services/sightline_service/models/openmp.py",  # a library's own variables
    }


def test_no_module_builds_an_application_on_import():
    for path in MODULES:
        assert not re.search(r"^app\s*=", path.read_text(), re.MULTILINE), name(path)


def test_handlers_are_short_and_hold_no_try():
    text = (ROOT / "services/sightline_service/routes.py").read_text()
    tree = ast.parse(text)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    handlers = [f for f in functions(tree) if isinstance(f, ast.AsyncFunctionDef)]
    assert handlers
    for handler in handlers:
        assert length(handler) <= 10, handler.name


def test_nothing_unpickles():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "shelve"} & set(names), name(path)


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=name)
def test_a_lock_is_hashed_and_names_no_host(lock):
    text = lock.read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+(?:\[[^\]]*\])?)==", text, re.MULTILINE)
    assert len(pins) > 10
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_every_dependency_is_in_its_lock():
    project = PROJECT["project"]
    for lock, wanted in {
        "sdk": project["dependencies"],
        "service": project["optional-dependencies"]["service"],
        "eval": project["optional-dependencies"]["eval"],
        "dev": project["optional-dependencies"]["dev"][1:],
    }.items():
        text = (ROOT / f"requirements/{lock}.txt").read_text().lower().replace("_", "-")
        for requirement in wanted:
            package = re.split(r"[\[><=]", requirement)[0].lower().replace("_", "-")
            assert re.search(rf"^{re.escape(package)}(\[[^\]]*\])?==", text, re.MULTILINE), package


def test_every_command_of_the_command_line_can_be_loaded():
    found = {point.name: point for point in entry_points(group="sightline.commands")}
    assert set(found) == set(PROJECT["project"]["entry-points"]["sightline.commands"])
    for point in found.values():
        assert callable(point.load())


def test_the_readme_names_only_verbs_that_the_makefile_has():
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= verbs


def test_the_readme_lists_every_source_package():
    readme = (ROOT / "README.md").read_text()
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert package in readme


def test_weights_stay_small_and_nothing_generated_is_committed():
    weights = (ROOT / "world/sightline_world/weights").rglob("*.safetensors")
    assert 0 < sum(path.stat().st_size for path in weights) < 40e6
