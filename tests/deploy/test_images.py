"""What the Dockerfiles promise, read from them; no image is built here."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
from rig import dockerfile

ROOT = Path(__file__).parents[2]
IMAGES = ("reward", "trainer")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPILERS = r"\b(gcc|g\+\+|clang|cc|make|cmake|build-essential|nvcc|cargo|rustc|apt-get|apk)\b"


@pytest.fixture(params=IMAGES)
def image(request):
    return dockerfile.read(ROOT / f"Dockerfile.{request.param}")


def stages_of(image):
    return {stage.name: stage for stage in image[1]}


def test_one_base_for_all_stages_and_it_can_be_chosen(image):
    arguments, stages = image
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+-slim-\w+", arguments["BASE_IMAGE"])
    assert {stage.base for stage in stages} == {"${BASE_IMAGE}"}


def test_the_process_is_not_root_and_has_a_name(image):
    final = image[1][-1]
    assert final.one("USER") == "10001:10001"
    assert "useradd --uid 10001 --gid 10001" in " ".join(final.all("RUN"))
    order = [word for word, _ in final.instructions]
    assert order.index("USER") > max(n for n, word in enumerate(order) if word in ("RUN", "COPY"))


def test_nothing_is_compiled_and_no_compiler_is_in_any_stage(image):
    runs = [run for stage in image[1] for run in stage.all("RUN")]
    assert not [run for run in runs if re.search(COMPILERS, run)]
    installs = re.findall(r"pip install [^&]*", " ".join(runs))
    from_index = [install for install in installs if "--no-index" not in install]
    assert from_index
    for install in from_index:
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install


def test_the_final_stage_gets_the_environment_and_no_sources(image):
    final = image[1][-1]
    assert final.copied() == []
    assert final.copied_from() <= {("build", "/opt/sightline"), ("build", "/models")}
    assert not [run for run in final.all("RUN") if "pip" in run]


def test_the_lock_is_the_extras_own_and_comes_before_the_sources():
    for name, extra in zip(IMAGES, ("service", "trainers"), strict=True):
        build = stages_of(dockerfile.read(ROOT / f"Dockerfile.{name}"))["build"]
        assert f"LOCK=requirements/{extra}.txt" in build.all("ARG")
        instructions = [f"{word} {rest}" for word, rest in build.instructions]
        installed = next(n for n, i in enumerate(instructions) if '-r "$LOCK"' in i)
        copied = next(n for n, i in enumerate(instructions) if i.startswith("COPY core"))
        assert installed < copied, "a changed source would install every dependency anew"


def test_the_context_holds_what_is_copied_and_all_that_the_wheel_is_built_of(image):
    copied = stages_of(image)["build"].copied()
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / path).exists() for path in copied)
    needed = [
        *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        *PROJECT["project"]["license-files"],
        PROJECT["project"]["readme"],
        *dict.fromkeys(
            re.findall(r"-r (requirements/\S+)", " ".join(stages_of(image)["build"].all("RUN")))
        ),
    ]
    for path in needed:
        assert (ROOT / path).exists()
        assert any(fnmatch.fnmatch(path, f"{part}*") for part in copied), path


def test_entry_points_are_the_command_line(image):
    final = image[1][-1]
    assert final.words("ENTRYPOINT") == ["sightline"]
    [command, *_] = final.words("CMD")
    assert command in PROJECT["project"]["entry-points"]["sightline.commands"]
    assert final.environment()["PATH"].startswith("/opt/sightline/bin:")


def test_the_service_is_asked_for_its_health_and_listens_where_it_says():
    final = dockerfile.read(ROOT / "Dockerfile.reward")[1][-1]
    assert final.one("EXPOSE") == "8000"
    check = final.one("HEALTHCHECK")
    assert "http://127.0.0.1:8000/healthz" in check
    assert "--timeout=" in check
    assert final.environment()["SIGHTLINE_HOST"] == "0.0.0.0"


def test_weights_are_baked_in_only_if_asked():
    build = stages_of(dockerfile.read(ROOT / "Dockerfile.reward"))["build"]
    assert "MODELS=" in build.all("ARG")
    [fetch] = [run for run in build.all("RUN") if "weights fetch" in run]
    assert 'if [ -n "$MODELS" ]' in fetch


def test_nothing_is_asked_of_a_network_and_nothing_is_reported():
    environment = dockerfile.read(ROOT / "Dockerfile.reward")[1][-1].environment()
    assert environment["HF_HUB_OFFLINE"] == environment["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("lock", ["build", "tests", "checkov"])
def test_a_lock_of_the_tools_is_hashed_and_names_no_host(lock):
    text = (ROOT / f"requirements/deploy/{lock}.txt").read_text()
    pins = re.findall(r"^[A-Za-z0-9._-]+(?:\[[^\]]*\])?==", text, re.MULTILINE)
    assert len(pins) >= 5
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
