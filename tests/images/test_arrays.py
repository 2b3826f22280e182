"""Hostile and damaged .npy files: told by their header, before any memory is taken."""

import struct
from pathlib import Path

import numpy as np
import pytest

from ccnet.images.reading import read_image
from ccnet.runtime.files import DataError


def npy(path: Path, shape: str, descr: str = "'|u1'", content: bytes = b"", fortran: bool = False):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content)
    return path


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_fortran_order_gives_the_same_image(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(dtype)
    for array in (image, image[:, :, 0]):
        np.save(tmp_path / "a.npy", np.asfortranarray(array))
        read = read_image(tmp_path / "a.npy", array.size // 20)
        np.testing.assert_array_equal(read, array.reshape(4, 5, -1))


@pytest.mark.parametrize(
    ("shape", "descr", "words"),
    [
        ("(1000000, 1000000, 3)", "'|u1'", "1000000×1000000 pixels, more than the limit of 50 mil"),
        ("(2, 2, 1000000000000)", "'|u1'", "1000000000000 channels where 3 are wanted; give"),
        (
            "(7000, 7000, 3)",
            "'<u2'",
            "12 bytes of pixels where 294000000 should be; the file is tr",
        ),
        ("(0, 2, 3)", "'|u1'", "2×0 pixels, where an image has at least one"),
        ("(-2, -2, 3)", "'|u1'", "-2×-2 pixels, where an image has at least one"),
        ("()", "'|u1'", r"an array \(\) of uint8; save \(H, W, channels\) of uint8 or uint16"),
        ("(2, 2, 3)", "'|O'", r"an array \(2, 2, 3\) of object; save"),
        ("(2, 2, 3)", "'|i1'", r"an array \(2, 2, 3\) of int8; save"),
        ("(2, 2, 3)", "[('a', '|u1')]", r"an array \(2, 2, 3\) of \[\('a', 'u1'\)\]; save"),
        ("(2, 2, 3)", "'nothing'", "cannot be read as an image"),
        ("(" * 5000, "'|u1'", "cannot be read as an image"),
    ],
)
def test_a_header_that_promises_too_much_is_told(tmp_path, shape, descr, words):
    path = npy(tmp_path / "a.npy", shape, descr, bytes(12))
    with pytest.raises(DataError, match=rf"a\.npy: {words}") as caught:
        read_image(path)
    assert len(str(caught.value)) < len(str(path)) + 400


@pytest.mark.parametrize("head", [b"\2\0\xff\xff\xff\xff{", b"\3\0\x10\0\0\0{", b"\1", b"\7\7"])
def test_a_header_without_end_or_of_another_version_is_told(tmp_path, head):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + head)
    with pytest.raises(DataError, match=r"a\.npy: "):
        read_image(tmp_path / "a.npy")


def test_numbers_of_python_2_in_the_header_are_read_without_a_warning(tmp_path, recwarn):
    path = npy(tmp_path / "a.npy", "(2L, 2L, 3L)", content=bytes(range(12)))
    assert read_image(path).ravel().tolist() == list(range(12))
    assert not recwarn.list
