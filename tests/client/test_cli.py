import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from sightline import cli
from sightline.errors import ConfigurationError, ImageError

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def sightline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from sightline.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "REWARD_URL": "", **environment},
        check=False,
    )


class Command:
    """Stands for an entry point; loading it gives `function`, or raises."""

    def __init__(self, name: str, function) -> None:
        self.name = name
        self._function = function

    def load(self):
        if isinstance(self._function, ImportError):
            raise self._function
        return self._function


@pytest.fixture
def commands(monkeypatch):
    """Replaces the installed commands."""

    def install(**functions) -> None:
        entries = [Command(name, function) for name, function in functions.items()]
        monkeypatch.setattr(cli, "entry_points", lambda group: entries)

    return install


def fails(error: BaseException):
    def command(argv):
        raise error

    return command


def test_the_overview_lists_every_command_with_its_summary():
    done = sightline("--help")
    assert done.returncode == 0
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"][cli.GROUP]
    for name in declared:
        assert f"  {name} " in done.stdout
        assert cli.LISTINGS[name].summary in done.stdout


def test_every_extra_that_is_recommended_exists():
    extras = set(tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"])
    named = {name for listing in cli.LISTINGS.values() for name in (listing.extra or "").split(",")}
    assert named - {""} <= extras


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sightline {version('sightline')}\n"


def test_no_command_is_wrong_usage(capsys):
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert cli.main(["scroe"]) == 2
    assert (
        capsys.readouterr().err == "sightline: there is no command 'scroe': did you mean 'score'?\n"
    )
    assert cli.main(["xyzzy"]) == 2
    assert "`sightline --help` lists the commands" in capsys.readouterr().err


def test_an_unknown_flag_is_wrong_usage(capsys):
    assert cli.main(["--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


def test_a_command_gets_its_arguments_and_gives_its_status(commands):
    got: list[list[str]] = []

    def command(argv):
        got.append(list(argv))
        return 7

    commands(score=command)
    assert cli.main(["--debug", "score", "--debug", "a", "-h"]) == 7
    assert got == [["--debug", "a", "-h"]]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigurationError("no url"), 2, "sightline score: no url\n"),
        (ImageError("no image"), 1, "sightline score: no image\n"),
        (ValueError("a bad value"), 1, "sightline score: a bad value\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "No such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("bug"), 1, "internal error: KeyError: 'bug' (`sightline --debug score ...`"),
        (SystemExit(3), 3, ""),
        (SystemExit("a word"), 1, "a word\n"),
        (SystemExit(None), 0, ""),
    ],
)
def test_failures_are_one_line(commands, capsys, error, status, message):
    commands(score=fails(error))
    assert cli.main(["score"]) == status
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert shown.count("\n") <= 1


def test_debug_shows_where(commands):
    commands(score=fails(KeyError("bug")))
    with pytest.raises(KeyError):
        cli.main(["--debug", "score"])


def test_a_missing_extra_is_named_with_the_pip_command(commands, capsys):
    missing = ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
    commands(serve=missing, calibrate=fails(missing), score=missing)
    assert cli.main(["serve"]) == 1
    assert capsys.readouterr().err == (
        "sightline serve: the package 'fastapi' is not installed: "
        "pip install 'sightline[service]'\n"
    )
    assert cli.main(["calibrate"]) == 1
    assert "pip install 'sightline[eval]'" in capsys.readouterr().err
    assert cli.main(["score"]) == 1
    assert "pip install 'sightline'" in capsys.readouterr().err


def test_without_a_url_the_way_to_start_a_service_is_shown(tmp_path):
    done = sightline("score", "x.png", "--text", "A dog.")
    assert done.returncode == 2
    assert "sightline serve" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path, live):
    image = tmp_path / "a.png"
    image.write_bytes(b"an image")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"image": "a.png", "text": "A dog."}\n' * 1000)
    code = "import sys; from sightline.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "score", "--texts-file", str(rows), "--json"]
    with subprocess.Popen(
        [*command, "--url", live.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 141
