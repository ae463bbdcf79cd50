"""Hashes of weights and preprocessing: equal for equal, different for different."""

import hashlib
from itertools import pairwise

from sightline_service.models import provenance
from sightline_service.models.provenance import preprocess_hash, weights_revision


def test_the_revision_of_a_small_file_is_the_hash_of_name_size_and_content(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"12345")
    expected = hashlib.sha256(b"a.safetensors\0005\00012345").hexdigest()[:16]
    assert weights_revision([tmp_path / "a.safetensors"]) == f"sha256:{expected}"


def test_the_revision_depends_on_content_name_and_split_but_not_on_the_order(tmp_path):
    def revision(**files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return weights_revision([tmp_path / name for name in files])

    seen = [
        revision(a=b"12", b=b"3"),
        revision(a=b"1", b=b"23"),
        revision(c=b"12", b=b"3"),
        revision(a=b"12", b=b"4"),
    ]
    assert len(set(seen)) == 4
    assert revision(b=b"3", a=b"12") == seen[0]


def test_a_huge_file_is_sampled_from_its_first_to_its_last_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_WHOLE_FILE_BYTES", 10_000)
    monkeypatch.setattr(provenance, "_BLOCK_BYTES", 100)
    file = tmp_path / "w.safetensors"
    content = bytearray(b"\0" * 50_000)

    def revision():
        file.write_bytes(content)
        return weights_revision([file])

    seen = [revision()]
    for place in (0, 99, len(content) - 100, len(content) - 1):
        content[place] = 1
        seen.append(revision())
    content.append(0)
    seen.append(revision())
    assert all(before != after for before, after in pairwise(seen))


def test_the_preprocess_hash_ignores_the_order_of_keys_only():
    one = preprocess_hash({"mean": [0.5, 0.4], "size": 224})
    assert one == preprocess_hash({"size": 224, "mean": [0.5, 0.4]})
    assert one != preprocess_hash({"size": 224, "mean": [0.4, 0.5]})
    assert one != preprocess_hash({"size": 336, "mean": [0.5, 0.4]})
    assert len(one) == 16
