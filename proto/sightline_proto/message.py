"""The common parent of every message: frozen, closed, finite. Knows pydantic; knows no endpoint."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict, StringConstraints

from sightline_proto import limits


class Message(BaseModel):
    """A frozen value with exactly the declared fields; NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Number = Annotated[float, Strict()]
Count = Annotated[int, Strict()]
Text = Annotated[str, StringConstraints(min_length=1, max_length=limits.TEXT_CHARS)]
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=limits.ID_CHARS)]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
