"""Lines of JSON that a long job leaves as it goes, and finds again after a kill. Knows files."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline_trainers.checkpoint import write_whole


class Journal:
    """A JSONL file to which records are added in groups.

    A group may be cut off by a kill; what remains of it is dropped by `trim`, so that the job can
    do the group again as a whole.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """The records, in order, without a line that was cut off."""
        if not self._path.is_file():
            return
        with self._path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))

    def trim(self, group: int, total: int) -> int:
        """Keeps whole groups of `group` records, or all `total`; gives how many there are."""
        records = list(self.read())
        kept = records if len(records) == total else records[: len(records) // group * group]
        if self._path.is_file():
            write_whole(self._path, "".join(map(_line, kept)))
        return len(kept)

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds records, which are on the disk when this returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, records)))
            file.flush()
            os.fsync(file.fileno())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
