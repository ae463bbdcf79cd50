"""The table of endpoints, and the names that the package exports."""

import sightline_proto
from sightline_proto import ENDPOINTS, GROUND, TOKEN_REWARD, ItemReply, Reply


def test_paths_are_the_four_of_the_contract():
    assert [endpoint.path for endpoint in ENDPOINTS] == [
        "/token_reward",
        "/sentence_reward",
        "/ground",
        "/perplexity",
    ]
    assert GROUND.versioned_path == "/v1/ground"


def test_messages_are_named_after_their_endpoint():
    for endpoint in ENDPOINTS:
        stem = endpoint.name.title().replace("_", "")
        assert endpoint.request.__name__ == f"{stem}Request"
        assert endpoint.reply.__name__ == f"{stem}Reply"


def test_every_request_has_items_and_every_reply_the_envelope():
    for endpoint in ENDPOINTS:
        assert "items" in endpoint.request.model_fields
        assert issubclass(endpoint.reply, Reply)
        (item_reply, _) = endpoint.reply.model_fields["items"].annotation.__args__
        assert issubclass(item_reply, ItemReply)


def test_summaries_are_the_first_sentence_of_the_request():
    assert TOKEN_REWARD.summary == (
        "Scores the object words of texts against images (FiSAO, Eq. 11-12)."
    )
    assert GROUND.summary == "Finds objects (SVP's grounding feedback)."
    assert "nms_iou" in GROUND.description
    for endpoint in ENDPOINTS:
        assert endpoint.description.startswith(endpoint.summary.split(";", 1)[0])


def test_exported_names_exist_and_are_sorted():
    assert sightline_proto.__all__ == sorted(set(sightline_proto.__all__))
    for name in sightline_proto.__all__:
        assert getattr(sightline_proto, name) is not None


def test_every_message_class_of_the_wire_is_exported():
    from sightline_proto.descriptors import FIELDS

    assert {cls.__name__ for cls in FIELDS} <= set(sightline_proto.__all__)
