"""The models at work: one batcher per model, the scorers on top. Knows asyncio; knows no HTTP."""

from collections.abc import Callable
from functools import partial

from sightline_core.entities import load_vocabulary
from sightline_proto import (
    GroundReply,
    GroundRequest,
    PerplexityReply,
    PerplexityRequest,
    SentenceRewardReply,
    SentenceRewardRequest,
    TokenRewardReply,
    TokenRewardRequest,
)
from sightline_service.batching import DynamicBatcher, Lane
from sightline_service.calls import BatchReport
from sightline_service.concurrency import together
from sightline_service.embedding import Embedder
from sightline_service.errors import ModelNotServedError
from sightline_service.image_fetching import FetchRules, ImageFetcher
from sightline_service.image_store import ImageStore
from sightline_service.images import DecodeLimits
from sightline_service.models.openmp import release_team
from sightline_service.models.protocols import Prepared, RawDetection
from sightline_service.preparing import Preparer
from sightline_service.scoring.ground import GroundScorer
from sightline_service.scoring.perplexity import PerplexityScorer
from sightline_service.scoring.sentence_reward import SentenceRewardScorer
from sightline_service.scoring.token_reward import TokenRewardScorer
from sightline_service.scoring.words import ConfidenceVerifier, CosineVerifier, WordVerifier
from sightline_service.served import Models, Role
from sightline_service.settings import Settings
from sightline_service.sources import ImageSource
from sightline_service.waiting import BatchLimits

BatchObserver = Callable[[str, BatchReport], None]
_STALL_FACTOR = 2
"""A forward pass longer than this many request timeouts can no longer serve anybody."""


class Engine:
    """Scores requests. Usable without HTTP: `start` it, call the four methods, `close` it.

    Args:
        models: what to serve; a method whose model is missing raises `ModelNotServedError`.
        settings: bounds of batches, images and caches.
        store: uploaded images.
        preparer: threads for CPU work.
        observe: called with the role and the report of each batch.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        *,
        store: ImageStore,
        preparer: Preparer,
        observe: BatchObserver = lambda role, report: None,
    ) -> None:
        self.models = models
        self._settings = settings
        self._preparer = preparer
        self._observe = observe
        self._source = ImageSource(
            store,
            DecodeLimits(settings.max_image_bytes, settings.max_image_pixels),
            preparer,
            _fetcher(settings),
        )
        self._vocabulary = load_vocabulary()
        self._batchers: dict[Role, DynamicBatcher] = {
            role: self._batcher(role) for role, _ in models.by_role()
        }
        self._embedder = self._build_embedder()
        self._detector_lane = self._build_detector_lane()
        self._token_reward = self._build_token_reward()
        self._sentence_reward = self._build_sentence_reward()
        self._ground = self._build_ground()
        self._perplexity = self._build_perplexity()

    @property
    def batchers(self) -> dict[Role, DynamicBatcher]:
        """The batcher of each model that is served."""
        return self._batchers

    @property
    def embedder(self) -> Embedder | None:
        """The similarity model's embeddings, if it is served."""
        return self._embedder

    def start(self) -> None:
        """Starts the owner threads; needs a running event loop."""
        for batcher in self._batchers.values():
            batcher.start()

    async def close(self, timeout_s: float) -> None:
        """Finishes what is accepted, for at most `timeout_s`."""
        await together(batcher.close(timeout_s) for batcher in self._batchers.values())

    async def token_reward(self, request: TokenRewardRequest) -> TokenRewardReply:
        """Scores object words (FiSAO)."""
        if self._token_reward is None:
            raise ModelNotServedError(self.models.token_scorer)
        return await self._token_reward.score(request)

    async def sentence_reward(self, request: SentenceRewardRequest) -> SentenceRewardReply:
        """Scores texts and sentences (CSR, ASPO)."""
        if self._sentence_reward is None:
            raise ModelNotServedError("similarity")
        return await self._sentence_reward.score(request)

    async def ground(self, request: GroundRequest) -> GroundReply:
        """Finds objects (SVP)."""
        if self._ground is None:
            raise ModelNotServedError("detector")
        return await self._ground.score(request)

    async def perplexity(self, request: PerplexityRequest) -> PerplexityReply:
        """Scores texts by teacher forcing (ASPO)."""
        if self._perplexity is None:
            raise ModelNotServedError("perplexity")
        return await self._perplexity.score(request)

    def _batcher(self, role: Role) -> DynamicBatcher:
        return DynamicBatcher(
            role,
            observe=partial(self._observe, role),
            rest=release_team,
            stalled_after_s=_STALL_FACTOR * self._settings.request_timeout_s,
        )

    def _limits(self, max_cost: int) -> BatchLimits:
        settings = self._settings
        return BatchLimits(settings.max_batch_items, max_cost, settings.max_wait_s)

    def _build_embedder(self) -> Embedder | None:
        model = self.models.similarity
        if model is None:
            return None
        batcher = self._batchers["similarity"]
        pixels = self._limits(self._settings.max_batch_pixels)
        tokens = self._limits(self._settings.max_batch_tokens)
        return Embedder(
            model,
            images=batcher.lane("images", lambda batch: [*model.embed_images(batch)], pixels),
            texts=batcher.lane("texts", lambda batch: [*model.embed_texts(batch)], tokens),
            preparer=self._preparer,
            cache_bytes=self._settings.embedding_cache_bytes,
        )

    def _build_detector_lane(self) -> Lane[Prepared, list[RawDetection]] | None:
        """One lane for both endpoints that may ask the detector, so that they share batches."""
        detector = self.models.detector
        if detector is None:
            return None
        limits = self._limits(self._settings.max_batch_pixels)
        return self._batchers["detector"].lane("images", detector.detect, limits)

    def _build_token_reward(self) -> TokenRewardScorer | None:
        verifier = self._word_verifier()
        if verifier is None:
            return None
        return TokenRewardScorer(
            verifier,
            source=self._source,
            preparer=self._preparer,
            vocabulary=self._vocabulary,
            profiles=self.models.profiles,
        )

    def _word_verifier(self) -> WordVerifier | None:
        if self.models.token_scorer == "similarity":  # nosec B105 # a model's role
            return CosineVerifier(self._embedder) if self._embedder else None
        if self.models.detector is None or self._detector_lane is None:
            return None
        return ConfidenceVerifier(
            self.models.detector, lane=self._detector_lane, preparer=self._preparer
        )

    def _build_sentence_reward(self) -> SentenceRewardScorer | None:
        if self._embedder is None:
            return None
        return SentenceRewardScorer(self._embedder, source=self._source, preparer=self._preparer)

    def _build_ground(self) -> GroundScorer | None:
        if self.models.detector is None or self._detector_lane is None:
            return None
        return GroundScorer(
            self.models.detector,
            lane=self._detector_lane,
            source=self._source,
            preparer=self._preparer,
            vocabulary=self._vocabulary,
        )

    def _build_perplexity(self) -> PerplexityScorer | None:
        model = self.models.perplexity
        if model is None:
            return None
        limits = self._limits(self._settings.max_batch_tokens)
        return PerplexityScorer(
            model,
            lane=self._batchers["perplexity"].lane("texts", model.score, limits),
            source=self._source,
            preparer=self._preparer,
        )


def _fetcher(settings: Settings) -> ImageFetcher | None:
    if not settings.image_hosts:
        return None
    hosts, limit = settings.image_hosts, settings.max_image_bytes
    return ImageFetcher(FetchRules(hosts, limit, settings.image_fetch_timeout_s))
