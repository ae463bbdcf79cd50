"""The table of scoring endpoints, read by server and client. Knows paths and messages, not HTTP."""

import inspect
from dataclasses import dataclass
from typing import Generic, TypeVar

from sightline_proto.ground import GroundReply, GroundRequest
from sightline_proto.message import first_sentence
from sightline_proto.perplexity import PerplexityReply, PerplexityRequest
from sightline_proto.sentence_reward import SentenceRewardReply, SentenceRewardRequest
from sightline_proto.token_reward import TokenRewardReply, TokenRewardRequest

Request = TokenRewardRequest | SentenceRewardRequest | GroundRequest | PerplexityRequest
AnyReply = TokenRewardReply | SentenceRewardReply | GroundReply | PerplexityReply

Req = TypeVar("Req", bound=Request)
Rep = TypeVar("Rep", bound=AnyReply)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Req, Rep]):
    """One scoring endpoint: its path, also served under /v1, and its message types."""

    name: str
    request: type[Req]
    reply: type[Rep]

    @property
    def path(self) -> str:
        """The short path: `/token_reward`."""
        return f"/{self.name}"

    @property
    def versioned_path(self) -> str:
        """The path that keeps its meaning for as long as version 1 lives: `/v1/token_reward`."""
        return f"/v1{self.path}"

    @property
    def summary(self) -> str:
        """One sentence on what the endpoint does, for documentation."""
        return first_sentence(self.request)

    @property
    def description(self) -> str:
        """What the request's fields mean, for documentation."""
        return inspect.getdoc(self.request) or ""


TOKEN_REWARD = Endpoint("token_reward", TokenRewardRequest, TokenRewardReply)
SENTENCE_REWARD = Endpoint("sentence_reward", SentenceRewardRequest, SentenceRewardReply)
GROUND = Endpoint("ground", GroundRequest, GroundReply)
PERPLEXITY = Endpoint("perplexity", PerplexityRequest, PerplexityReply)
ENDPOINTS = (TOKEN_REWARD, SENTENCE_REWARD, GROUND, PERPLEXITY)
