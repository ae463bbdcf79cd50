"""The memory of a PIL image as an array, without a copy. Knows PIL and Arrow's C data interface.

PIL hands out its pixels as the capsules of https://arrow.apache.org/docs/format/CDataInterface.html
(and .../PyCapsuleInterface.html); `numpy.asarray` would copy them twice and hold Python's lock.
"""

import ctypes

import numpy as np
import PIL.Image
from numpy.typing import NDArray

_BYTES = 4
"""A pixel of RGB fills four bytes in PIL, so that it is one word; the last means nothing."""


class _ArrowArray(ctypes.Structure):
    """The start of Arrow's `struct ArrowArray`, as far as it is read here."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _Lent:
    """Memory as numpy asks for it; the array keeps this object, which keeps the memory."""

    def __init__(self, capsule: object, address: int, shape: tuple[int, ...]) -> None:
        self._capsule = capsule
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (address, False),
        }


def pixel_memory(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """Returns bytes [h, w, 4] of an RGB image: red, green, blue, and one that means nothing.

    They are the image's own, to be read only, and outlive it; a copy only where PIL keeps the
    rows of a large image in several blocks.
    """
    assert image.mode == "RGB"
    shape = (image.height, image.width, _BYTES)
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:
        return np.frombuffer(bytearray(image.tobytes("raw", "RGBX")), np.uint8).reshape(shape)
    pixels = _ArrowArray.from_address(_pointer_of(capsule, b"arrow_array"))
    [values] = pixels.children[: pixels.n_children]
    return np.asarray(_Lent(capsule, values.contents.buffers[1], shape))
