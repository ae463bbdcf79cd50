import pytest

from sightline.answers import MisfitError, Part, check, error_codes, join
from sightline_proto import (
    ErrorCode,
    GroundItem,
    GroundItemReply,
    GroundReply,
    GroundResult,
    Image,
    ModelInfo,
    TokenRewardItem,
    TokenRewardItemReply,
    TokenRewardReply,
    TokenRewardResult,
    Usage,
    error_detail,
)

MODEL = ModelInfo(id="m", revision="1", preprocess="p", dtype="float32")
ONE = TokenRewardResult(spans=(), token_rewards=None, truncated=False)
FAILED = error_detail(ErrorCode.IMAGE_INVALID, "no image", param="items[0].image")


def item(**more) -> TokenRewardItem:
    return TokenRewardItem(**{"image": Image(b"x"), "texts": ("a",), **more})


def answer(index=0, **more) -> TokenRewardItemReply:
    return TokenRewardItemReply(**{"index": index, "results": (ONE,), **more})


def reply(*answers, model=MODEL, **more) -> TokenRewardReply:
    usage = more.pop("usage", Usage(images=1, texts=1, truncated=0))
    return TokenRewardReply(model=model, scale="cos100", usage=usage, items=answers, **more)


def rewarded(*rewards) -> TokenRewardResult:
    return TokenRewardResult(spans=(), token_rewards=rewards, truncated=False)


@pytest.mark.parametrize(
    ("items", "answers", "message"),
    [
        ([item()], [], "0 answers came for 1 items"),
        ([item()], [answer(), answer(1)], "2 answers came for 1 items"),
        ([item(), item()], [answer(1), answer(0)], r"items\[0\]: the answer says index 1"),
        ([item(id="a")], [answer(id="b")], r"says id 'b', the item has 'a'"),
        ([item(id="a")], [answer()], r"says id None, the item has 'a'"),
        ([item()], [answer(results=())], "0 results came for 1 texts"),
        ([item(texts=("a", "b"))], [answer()], "1 results came for 2 texts"),
        ([item(token_offsets=(((0, 1),),))], [answer()], "None token rewards for 1 token offsets"),
        (
            [item(token_offsets=(((0, 1),),))],
            [answer(results=(rewarded(1.0, 2.0),))],
            r"results\[0\] has 2 token rewards for 1 token offsets",
        ),
        ([item()], [answer(results=(rewarded(1.0),))], "1 token rewards for None token offsets"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(items, answers, message):
    with pytest.raises(MisfitError, match=message):
        check(items, reply(*answers))


def test_an_answer_that_fits_passes():
    offsets = item(id="a", token_offsets=(((0, 1), (1, 1)),))
    check([offsets], reply(answer(id="a", results=(rewarded(1.0, 0.0),))))
    check([item(), item()], reply(answer(), answer(1, results=None, error=FAILED)))


def test_a_ground_answer_is_checked_without_texts():
    question = [GroundItem(image=Image(b"x"), phrases=("dog",))]
    result = GroundResult(detections=(), context="")
    usage = Usage(images=1, texts=1, truncated=0)
    envelope = {"model": MODEL, "scale": "probability", "usage": usage}
    check(question, GroundReply(items=(GroundItemReply(index=0, result=result),), **envelope))
    with pytest.raises(MisfitError, match="says index 1"):
        check(question, GroundReply(items=(GroundItemReply(index=1, result=result),), **envelope))


def test_parts_are_joined_in_the_batchs_order_and_their_usage_is_added():
    late = Part((2,), reply(answer(id="c"), usage=Usage(images=3, texts=5, truncated=1)))
    early = Part((0, 1), reply(answer(id="a"), answer(1, id="b")))
    joined = join([late, early])
    assert [(each.index, each.id) for each in joined.items] == [(0, "a"), (1, "b"), (2, "c")]
    assert joined.usage == Usage(images=4, texts=6, truncated=1)


def test_the_later_of_two_answers_counts_and_errors_name_the_batchs_place():
    first = Part((0, 7), reply(answer(results=None, error=FAILED), answer(1)))
    again = Part((0,), reply(answer()))
    assert error_codes([first]) == {0: "image_invalid"}
    assert error_codes([first, again]) == {}
    lost = Part((7,), reply(answer(results=None, error=FAILED)))
    error = join([first, again, lost]).items[1].error
    assert error is not None
    assert error.param == "items[7].image"


@pytest.mark.parametrize(
    "other",
    [
        reply(answer(), model=MODEL.model_copy(update={"revision": "2"})),
        reply(answer(), profile="other"),
    ],
)
def test_scores_of_two_models_are_never_joined(other):
    with pytest.raises(MisfitError, match="one batch was scored with"):
        join([Part((0,), reply(answer())), Part((1,), other)])
