"""A Dockerfile as instructions by stage. Knows the syntax that ours use; builds nothing."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def all(self, keyword: str) -> list[str]:
        """What follows a keyword, each time that it is used."""
        return [rest for word, rest in self.instructions if word == keyword]

    def one(self, keyword: str) -> str:
        """What follows a keyword that is used once."""
        [rest] = self.all(keyword)
        return rest

    def words(self, keyword: str) -> list[str]:
        """The words of a keyword in its JSON form."""
        return list(json.loads(self.one(keyword)))

    def environment(self) -> dict[str, str]:
        """All variables that ENV sets."""
        pairs = (word.split("=", 1) for rest in self.all("ENV") for word in shlex.split(rest))
        return {name: value for name, value in pairs}

    def copied(self) -> list[str]:
        """What COPY takes out of the context."""
        copies = [rest.split() for rest in self.all("COPY") if not rest.startswith("--from")]
        return [source for words in copies for source in words[:-1]]

    def copied_from(self) -> set[tuple[str, str]]:
        """What COPY takes out of other stages: (stage, path)."""
        copies = [rest.split() for rest in self.all("COPY") if rest.startswith("--from=")]
        return {(words[0].removeprefix("--from="), words[1]) for words in copies}


def read(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage, and the stages."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, lines)):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name))
        elif not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stages[-1].instructions.append((keyword, rest.strip()))
    return arguments, stages
