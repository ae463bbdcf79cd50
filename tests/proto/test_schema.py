"""The committed .proto file is what the runtime speaks, and what protoc understands."""

import importlib.util
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from sightline_proto import (
    ENDPOINTS,
    GroundItem,
    GroundRequest,
    Image,
    TokenRewardItem,
    TokenRewardRequest,
    from_protobuf,
    schema,
    to_protobuf,
)
from sightline_proto.descriptors import FIELDS, FILE_DESCRIPTOR, PROTO_FILE

ROOT = Path(__file__).resolve().parents[2] / "proto"


def compile_proto(*options):
    assert protoc.main(["protoc", f"--proto_path={ROOT}", *options, PROTO_FILE]) == 0


def test_the_committed_file_is_the_rendering():
    assert (ROOT / PROTO_FILE).read_text(encoding="utf-8") == schema.render(), (
        "run python -m sightline_proto.schema"
    )


def test_the_command_writes_the_rendering(tmp_path, capsys):
    target = tmp_path / "reward.proto"
    assert schema.main([str(target)]) == 0
    assert target.read_text(encoding="utf-8") == schema.render()
    assert schema.main([str(tmp_path / "nowhere" / "reward.proto")]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err


def test_protoc_reads_the_same_descriptor_as_the_runtime_uses(tmp_path):
    compile_proto(f"--descriptor_set_out={tmp_path / 'set'}")
    compiled = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file[0]
    for message in compiled.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc derives it from the name
    assert compiled == FILE_DESCRIPTOR


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The module that protoc generates for a Python client."""
    folder = tmp_path_factory.mktemp("generated")
    compile_proto(f"--python_out={folder}")
    path = folder / PROTO_FILE.replace(".proto", "_pb2.py")
    spec = importlib.util.spec_from_file_location("reward_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_generated_class_reads_what_the_runtime_writes(generated):
    request = TokenRewardRequest(
        items=(
            TokenRewardItem(
                id="a", image=Image(b"\x89PNG"), texts=("a dog",), token_offsets=(((0, 1), (2, 5)),)
            ),
        ),
        profile="default",
    )
    read = generated.TokenRewardRequest.FromString(to_protobuf(request))
    assert read.items[0].image.data == b"\x89PNG"
    assert read.items[0].image.WhichOneof("value") == "data"
    assert list(read.items[0].texts) == ["a dog"]
    assert list(read.items[0].token_offsets.values[0].bounds) == [0, 1, 2, 5]
    assert read.profile == "default"


def test_the_runtime_reads_what_a_generated_class_writes(generated):
    item = generated.GroundItem(
        image=generated.Image(text="sha256:" + "0" * 64),
        phrases=generated.StringList(values=["dog", "hot dog"]),
    )
    body = generated.GroundRequest(items=[item], max_boxes=3).SerializeToString()
    assert from_protobuf(GroundRequest, body) == GroundRequest(
        items=(GroundItem(image=Image("sha256:" + "0" * 64), phrases=("dog", "hot dog")),),
        max_boxes=3,
    )


def test_a_fields_number_is_its_place_and_parents_come_first():
    by_name = {message.name: message for message in FILE_DESCRIPTOR.message_type}
    reply = by_name["GroundItemReply"]
    assert [(field.name, field.number) for field in reply.field] == [
        ("index", 1),
        ("id", 2),
        ("error", 3),
        ("result", 4),
    ]
    for cls in FIELDS:
        assert [field.name for field in by_name[cls.__name__].field] == list(cls.model_fields)


def test_the_file_names_every_path_and_defines_no_service():
    text = schema.render()
    for endpoint in ENDPOINTS:
        assert f"POST {endpoint.path}, also {endpoint.versioned_path}" in text
    assert not FILE_DESCRIPTOR.service
