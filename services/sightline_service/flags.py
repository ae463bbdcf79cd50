"""Every setting as a command-line flag. Knows argparse and the settings; starts nothing."""

import argparse
from collections.abc import Sequence

from pydantic import ValidationError

from sightline_service.keys import KeyFileError
from sightline_service.settings import Settings


class SettingsError(ValueError):
    """A flag or variable has a wrong value; the message names it and the mend."""


def parse_settings(argv: Sequence[str] | None) -> Settings:
    """Returns the settings from flags, SIGHTLINE_* variables and defaults, in this order.

    Raises:
        SettingsError: a value is wrong.
        SystemExit: --help was asked for, or a flag is unknown.
    """
    given = vars(_parser().parse_args(argv))
    try:
        settings = Settings(**given)
        settings.key_ring()
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    except KeyFileError as error:
        raise SettingsError(f"--api-key-file: {error}") from None
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline serve",
        description="Serves rewards over HTTP; without arguments, the models that ship with it.",
        epilog="Each flag is also an environment variable: --max-wait-ms is SIGHTLINE_MAX_WAIT_MS.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, info in Settings.model_fields.items():
        default = "none" if info.default in (None, ()) else info.default
        described = f"{info.description} [{default}]".replace("%", "%%")
        flag, metavar = f"--{name.replace('_', '-')}", name.rpartition("_")[2].upper()
        parser.add_argument(flag, dest=name, metavar=metavar, help=described)
    return parser


def _sentence(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    flag = f"--{name.replace('_', '-')} (SIGHTLINE_{name.upper()})"
    shown = "" if name == "api_keys" else f", got {str(fault['input'])[:60]!r}"
    return f"{flag}: {message}{shown}"
