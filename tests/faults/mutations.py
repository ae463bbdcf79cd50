"""Bytes spoilt as networks, disks and attackers spoil them. Knows bytes, and the heads of files."""

import random
import struct
import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def spoil(data: bytes, draw: random.Random, *, others: list[bytes] | None = None) -> bytes:
    """`data` after one to four of the mutations below."""
    spoilt = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        mutate = draw.choice((_flip, _set, _cut, _drop, _repeat, _insert, _lie, _splice))
        spoilt = mutate(spoilt, draw, others or [data])
        if not spoilt:
            break
    return bytes(spoilt)


def with_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG that declares another size, and whose checksum says that this is so."""
    return with_checksums(png[:16] + struct.pack(">II", width, height) + png[24:])


def with_checksums(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that its decoder reads on; else `data` itself."""
    mended, at = bytearray(data), len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and at + 12 <= len(data):
        [length] = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if data[at + 4 : at + 8] == b"IDAT":
            mended[end - 4 : end] = _checksum_of_stream(mended[at + 8 : end])
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended[: len(data)])


def _checksum_of_stream(stream: bytearray) -> bytes:
    """What ends a zlib stream; where it cannot be inflated, what ends it now."""
    try:
        pixels = zlib.decompress(stream[2:-4], wbits=-zlib.MAX_WBITS)
    except zlib.error:
        return bytes(stream[-4:])
    return struct.pack(">I", zlib.adler32(pixels))


def _place(data: bytearray, draw: random.Random) -> int:
    """More often near the start, where the heads are."""
    return min(draw.randrange(len(data)), draw.randrange(len(data)))


def _flip(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    data[_place(data, draw)] ^= 1 << draw.randrange(8)
    return data


def _set(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    data[_place(data, draw)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    return data


def _cut(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    return data[: draw.randrange(len(data) + 1)]


def _drop(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    start = _place(data, draw)
    return data[:start] + data[start + draw.randint(1, 16) :]


def _repeat(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    start = _place(data, draw)
    piece = data[start : start + draw.randint(1, 64)]
    return data[:start] + piece * draw.choice((2, 3, 40)) + data[start:]


def _insert(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    start = _place(data, draw)
    return data[:start] + draw.randbytes(draw.randint(1, 32)) + data[start:]


def _lie(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    """Overwrites two or four bytes by a number that breaks sizes, counts and offsets."""
    number = draw.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    layout = draw.choice(("<I", ">I")) if number > 0xFFFF else draw.choice(("<H", ">H", "<I"))
    start = _place(data, draw)
    raw = struct.pack(layout, number)
    return data[:start] + raw + data[start + len(raw) :]


def _splice(data: bytearray, draw: random.Random, others: list[bytes]) -> bytearray:
    """The first half of one file and the second of another."""
    other = draw.choice(others)
    at = _place(data, draw)
    return data[:at] + other[draw.randrange(len(other)) :]
