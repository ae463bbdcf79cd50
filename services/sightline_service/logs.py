"""Logs as JSON or text, each line with its request's id. Knows no captions and no images.

An exception's message may quote a caption, so that it is written at level debug only; its type
and its stack, which show code and never values, always are.
"""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, and what `extra` adds."""

    def __init__(self, *, with_messages: bool = False) -> None:
        super().__init__()
        self._with_messages = with_messages

    def format(self, record: logging.LogRecord) -> str:
        """Writes the record."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in record.__dict__.items() if key not in _OWN}
        if record.exc_info and record.exc_info[1]:
            entry["error"] = describe(record.exc_info[1], with_message=self._with_messages)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people: time, level, message, then what `extra` adds."""

    def __init__(self, *, with_messages: bool = False) -> None:
        super().__init__()
        self._with_messages = with_messages

    def format(self, record: logging.LogRecord) -> str:
        """Writes the record."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extra = [
            f"{key}={value}"
            for key, value in record.__dict__.items()
            if key not in _OWN and value is not None
        ]
        line = " ".join([time, f"{record.levelname:<8}", record.getMessage(), *extra])
        if record.exc_info and record.exc_info[1]:
            line += "\n" + describe(record.exc_info[1], with_message=self._with_messages)
        return line


def describe(error: BaseException, *, with_message: bool) -> str:
    """Returns stack and type of `error` and of its causes, with their messages only if asked."""
    if with_message:
        return "".join(traceback.format_exception(error)).rstrip()
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = [describe(cause, with_message=False), ""] if cause else []
    stack = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return "\n".join([*before, stack, name] if stack else [*before, name])


def configure(log_format: Literal["json", "text"], level: str) -> None:
    """Sends all logs of this process to stderr in one format."""
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(with_messages=level == "debug"))
    handler.addFilter(_WithRequestId())
    # The libraries narrate at level info what they load; here only their warnings count.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("sightline_service").setLevel(level.upper())
