"""The contract of the reward service: messages, errors, endpoints. Knows pydantic, no HTTP."""

from sightline_proto.endpoints import (
    ENDPOINTS,
    GROUND,
    PERPLEXITY,
    SENTENCE_REWARD,
    TOKEN_REWARD,
    Endpoint,
)
from sightline_proto.errors import ERROR_KINDS, ErrorBody, ErrorCode, ErrorDetail, error_detail
from sightline_proto.ground import (
    Detection,
    GroundItem,
    GroundItemReply,
    GroundReply,
    GroundRequest,
    GroundResult,
)
from sightline_proto.image import Image, sha256_of
from sightline_proto.info import ServedModel, ServiceInfo, ServiceLimits
from sightline_proto.perplexity import (
    PerplexityItem,
    PerplexityItemReply,
    PerplexityReply,
    PerplexityRequest,
    PerplexityResult,
    SentencePerplexity,
    TokenLogProb,
)
from sightline_proto.reply import ModelInfo, Usage
from sightline_proto.sentence_reward import (
    SentenceRewardItem,
    SentenceRewardItemReply,
    SentenceRewardReply,
    SentenceRewardRequest,
    SentenceRewardResult,
    SentenceScore,
)
from sightline_proto.token_reward import (
    SpanReward,
    TokenRewardItem,
    TokenRewardItemReply,
    TokenRewardReply,
    TokenRewardRequest,
    TokenRewardResult,
)

__all__ = [
    "ENDPOINTS",
    "ERROR_KINDS",
    "GROUND",
    "PERPLEXITY",
    "SENTENCE_REWARD",
    "TOKEN_REWARD",
    "Detection",
    "Endpoint",
    "ErrorBody",
    "ErrorCode",
    "ErrorDetail",
    "GroundItem",
    "GroundItemReply",
    "GroundReply",
    "GroundRequest",
    "GroundResult",
    "Image",
    "ModelInfo",
    "PerplexityItem",
    "PerplexityItemReply",
    "PerplexityReply",
    "PerplexityRequest",
    "PerplexityResult",
    "SentencePerplexity",
    "SentenceRewardItem",
    "SentenceRewardItemReply",
    "SentenceRewardReply",
    "SentenceRewardRequest",
    "SentenceRewardResult",
    "SentenceScore",
    "ServedModel",
    "ServiceInfo",
    "ServiceLimits",
    "SpanReward",
    "TokenLogProb",
    "TokenRewardItem",
    "TokenRewardItemReply",
    "TokenRewardReply",
    "TokenRewardRequest",
    "TokenRewardResult",
    "Usage",
    "error_detail",
    "sha256_of",
]
