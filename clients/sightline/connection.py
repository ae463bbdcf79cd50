"""The flags by which a command reaches the service. Knows argparse; knows no endpoint."""

import argparse

from sightline.client import RewardClient
from sightline.config import GivenUrl


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --url and --timeout."""
    parser.add_argument(
        "--url",
        help="the service's URL, several separated by commas (default: REWARD_URL); "
        "an API key is read from REWARD_API_KEY",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for one request with its retries (default: %(default)g)",
    )


def connect(arguments: argparse.Namespace) -> RewardClient:
    """Builds the client that the flags describe.

    Raises:
        ConfigurationError: no URL is given, or a value is impossible.
    """
    url = None if arguments.url is None else GivenUrl(arguments.url, "--url")
    return RewardClient(url, timeout_s=arguments.timeout)
