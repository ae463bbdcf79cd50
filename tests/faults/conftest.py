"""Makes the rig beside the tests importable, and ends the services that they start.

`make test-faults` runs these.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from victim import FAKES, ILL, Victim


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def starter(folder: Path) -> Iterator[Callable[..., Victim]]:
    with ExitStack() as stack:

        def run(*flags: str, models: Sequence[str] = FAKES, port: int = 0) -> Victim:
            victim = Victim([*models, *flags], folder, ill=models == ILL, port=port)
            stack.callback(victim.kill)
            victim.await_ready()
            return victim

        yield run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """Starts services by flags, with fakes or with other `models`."""
    with starter(tmp_path) as run:
        yield run


@pytest.fixture(scope="session")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One service whose models misbehave when a text says so, for tests that leave it alive."""
    with starter(tmp_path_factory.mktemp("ill")) as run:
        yield run(models=ILL)
