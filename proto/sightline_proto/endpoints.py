"""The table of scoring endpoints, read by server and client alike. Knows paths and message types."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from sightline_proto.ground import GroundReply, GroundRequest
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
        """The short path; the versioned one is `/v1` + path."""
        return f"/{self.name}"


TOKEN_REWARD = Endpoint("token_reward", TokenRewardRequest, TokenRewardReply)
SENTENCE_REWARD = Endpoint("sentence_reward", SentenceRewardRequest, SentenceRewardReply)
GROUND = Endpoint("ground", GroundRequest, GroundReply)
PERPLEXITY = Endpoint("perplexity", PerplexityRequest, PerplexityReply)
ENDPOINTS = (TOKEN_REWARD, SENTENCE_REWARD, GROUND, PERPLEXITY)
