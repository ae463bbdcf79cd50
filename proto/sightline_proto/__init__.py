"""The contract of the reward service: messages, errors, endpoints. Knows pydantic, no HTTP."""

from sightline_proto.endpoints import (
    ENDPOINTS,
    GROUND,
    PERPLEXITY,
    SENTENCE_REWARD,
    TOKEN_REWARD,
    Endpoint,
)
from sightline_proto.errors import (
    ERROR_KINDS,
    ErrorBody,
    ErrorCode,
    ErrorDetail,
    ErrorKind,
    error_detail,
)
from sightline_proto.ground import (
    Detection,
    GroundItem,
    GroundItemReply,
    GroundReply,
    GroundRequest,
    GroundResult,
)
from sightline_proto.image import Image, ImageEncodingError, ImageUrlError, sha256_of
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
from sightline_proto.reply import ItemReply, ModelInfo, Reply, Usage
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
from sightline_proto.validation import validation_detail
from sightline_proto.wire import CONTENT_TYPE_PROTOBUF, WireError, from_protobuf, to_protobuf

__all__ = [
    "CONTENT_TYPE_PROTOBUF",
    "Detection",
    "ENDPOINTS",
    "ERROR_KINDS",
    "Endpoint",
    "ErrorBody",
    "ErrorCode",
    "ErrorDetail",
    "ErrorKind",
    "GROUND",
    "GroundItem",
    "GroundItemReply",
    "GroundReply",
    "GroundRequest",
    "GroundResult",
    "Image",
    "ImageEncodingError",
    "ImageUrlError",
    "ItemReply",
    "ModelInfo",
    "PERPLEXITY",
    "PerplexityItem",
    "PerplexityItemReply",
    "PerplexityReply",
    "PerplexityRequest",
    "PerplexityResult",
    "Reply",
    "SENTENCE_REWARD",
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
    "TOKEN_REWARD",
    "TokenLogProb",
    "TokenRewardItem",
    "TokenRewardItemReply",
    "TokenRewardReply",
    "TokenRewardRequest",
    "TokenRewardResult",
    "Usage",
    "WireError",
    "error_detail",
    "from_protobuf",
    "sha256_of",
    "to_protobuf",
    "validation_detail",
]
