"""The common parent of every message: frozen, closed, finite. Knows pydantic; knows no endpoint."""

import inspect
import re
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Strict, StringConstraints

from sightline_proto import limits


class Message(BaseModel):
    """A frozen value with exactly the declared fields.

    NaN, infinity and strings that are no Unicode text (lone surrogates) are refused.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        str_min_length=0,  # any constraint makes pydantic look inside a str, and refuse surrogates
    )


Number = Annotated[float, Strict()]
"""A finite number; whole numbers are taken, booleans and strings are not."""
Count = Annotated[int, Strict(), Ge(0), Le(limits.COUNT)]
"""A whole number from 0 to 2^53 - 1; `1.0`, booleans and strings are not taken."""
Flag = Annotated[bool, Strict()]
"""true or false; "yes" and 1 are not taken."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=limits.TEXT_CHARS)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=limits.ID_CHARS)]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


def first_sentence(documented: type) -> str:
    """Returns the first sentence of a class's docstring, on one line and with its stop."""
    paragraph = (inspect.getdoc(documented) or "").split("\n\n", 1)[0]
    return re.split(r"(?<=[.?!])\s+(?=[A-Z`])", " ".join(paragraph.split()), maxsplit=1)[0]
