"""Pictures that must come exactly as they are stored, and those that Pillow changes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ccnet.images.exact import open_exact, stored_bits
from ccnet.runtime.files import DataError
from tests.images.test_opening import chunk, encoded
from tests.images.test_tiff import write_tiff

GRAY = Image.fromarray(np.random.default_rng(0).integers(0, 5, (16, 16), np.uint8))


@pytest.mark.parametrize(
    ("content", "bits"),
    [
        (encoded("PNG", GRAY), 8),
        (encoded("PNG", Image.fromarray(np.full((4, 4), 300, np.uint16))), 16),
        (encoded("PNG", GRAY.convert("1")), 1),
        (encoded("BMP", GRAY), 8),
        (encoded("TIFF", GRAY), 8),
        (encoded("TIFF", GRAY, compression="tiff_lzw"), 8),
        (encoded("WebP", GRAY.convert("RGB"), lossless=True), 8),
    ],
)
def test_exact_files_are_read_with_their_bits(tmp_path, content, bits):
    (tmp_path / "a").write_bytes(content)
    picture, found = open_exact(tmp_path / "a")
    assert found == bits
    expected = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded("JPEG", GRAY), "the lossy compression of a JPEG changes numbers and colors; make"),
        (encoded("WebP", GRAY), "the lossy compression of a WebP changes"),
        (
            encoded("WebP", GRAY, save_all=True, append_images=[GRAY.convert("RGB")]),
            "the lossy compression of a WebP changes",
        ),
        (encoded("TIFF", GRAY, compression="jpeg"), "the lossy compression of a JPEG in a TIFF"),
        (encoded("TIFF", GRAY.convert("CMYK")), "photometric interpretation 5 has other numbers"),
    ],
)  # fmt: skip
def test_changed_values_are_refused(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png: .*{words}"):
        open_exact(tmp_path / "a.png")


def test_inverted_and_premultiplied_tiffs_are_refused(tmp_path):
    image = np.zeros((8, 8, 1), np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, tag262=(3, [0]))
    with pytest.raises(DataError, match="photometric interpretation 0 has other numbers"):
        open_exact(path)
    image = np.zeros((8, 8, 4), np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, tag262=(3, [2]), tag338=(3, [1]))
    with pytest.raises(DataError, match="its colors are multiplied by their alpha"):
        open_exact(path)


@pytest.mark.parametrize("kind", [2, 4, 6], ids=["RGB", "gray and alpha", "RGBA"])
def test_colors_of_16_bits_are_refused(tmp_path, kind):
    size = {2: 6, 4: 4, 6: 8}[kind]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 + size)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"a\.png: its colors have 16 bits per channel; save 8"):
        open_exact(tmp_path / "a.png")
    image = np.zeros((8, 8, 3), np.uint16)
    with pytest.raises(DataError, match="its colors have 16 bits per channel"):
        open_exact(write_tiff(tmp_path / "a.tif", image, planar=True, tag262=(3, [2])))


def gif(array: np.ndarray, palette: list[int] | None = None) -> bytes:
    picture, file = Image.fromarray(array), io.BytesIO()
    if palette is not None:
        picture.putpalette(palette)
    picture.save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize("values", [[0, 1, 255], [0, 255], [7, 3], list(range(256))], ids=str)
def test_the_grays_of_a_gif_are_its_numbers(tmp_path, values):
    # the numbers in its palette are 0, 1, 2, since programs leave out the unused ones
    array = np.resize(np.array(values, np.uint8), (7, 60))
    (tmp_path / "a.gif").write_bytes(gif(array))
    picture, bits = open_exact(tmp_path / "a.gif")
    assert (picture.mode, bits) == ("L", 8)
    np.testing.assert_array_equal(np.asarray(picture), array)


def test_the_colors_of_a_gif_count_since_its_numbers_change(tmp_path):
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 64, 128]], np.uint8)
    array = np.array([[0, 3, 3, 0], [3, 0, 0, 3]], np.uint8)  # 1 and 2 are not used
    (tmp_path / "a.gif").write_bytes(gif(array, colors.ravel().tolist()))
    picture, _ = open_exact(tmp_path / "a.gif")
    np.testing.assert_array_equal(np.asarray(picture), colors[array])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda content: content[:6] + b"\xff\xff\xff\xff" + content[10:],
            "65535×65535 pixels, mo",
        ),
        (lambda content: content[:6] + b"\x50\0" + content[8:], "its first picture does not fill"),
        (lambda content: content[:-8], "cannot be read as an image"),
        (lambda content: content[:20], "cannot be read as an image"),
    ],
    ids=["large", "part", "truncated", "header"],
)
def test_a_damaged_gif_is_told(tmp_path, damage, words):
    array = np.random.default_rng(0).integers(0, 256, (7, 60), np.uint8)
    (tmp_path / "a.gif").write_bytes(damage(gif(array)))
    with pytest.raises(DataError, match=rf"a\.gif: .*{words}"):
        open_exact(tmp_path / "a.gif")


def test_the_bits_of_a_file_are_known_without_decoding(tmp_path):
    for content, bits in (
        (encoded("PNG", Image.fromarray(np.full((4, 4), 300, np.uint16))), 16),
        (encoded("TIFF", Image.fromarray(np.full((4, 4), 300, np.uint16))), 16),
        (encoded("PNG", GRAY), 8),
        (encoded("JPEG", GRAY), 8),
    ):
        (tmp_path / "a").write_bytes(content)
        assert stored_bits(tmp_path / "a") == bits
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.uint16))
    assert stored_bits(tmp_path / "a.npy") == 16


def test_a_picture_may_be_left_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.zeros((2, 4), np.uint8))
    wide.save(tmp_path / "a.png", exif=exif)
    assert open_exact(tmp_path / "a.png")[0].size == (2, 4)
    assert open_exact(tmp_path / "a.png", upright=False)[0].size == (4, 2)


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (np.array([[0, 1]], bool), "L"),
        (np.array([[0, 255]], np.uint8), "L"),
        (np.array([[0, 300]], ">u2"), "I;16"),
        (np.array([[0, -7]], np.int64), "I"),
        (np.array([[0, 0.5]], np.float64), "F"),
        (np.array([[0, np.nan]], np.float32), "F"),
        (np.array([[[0], [3]]], np.uint8), "L"),
        (np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)), "L"),
        (np.array([[[0, 1, 2]]], np.uint8), "RGB"),
    ],
)
def test_arrays_hold_numbers_or_colors(tmp_path, array, mode):
    np.save(tmp_path / "a.npy", array)
    picture, _ = open_exact(tmp_path / "a.npy")
    assert picture.mode == mode
    expected = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3), np.float32), r"save \(H, W\) of class numbers"),
        (np.zeros((2, 2, 4), np.uint8), r"save \(H, W\) of class numbers"),
        (np.zeros(3, np.uint8), r"save \(H, W\) of class numbers"),
        (np.zeros((2, 2), complex), r"save \(H, W\) of class numbers"),
        (np.full((1, 1), 2**40), "its int64 numbers are too large"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=words):
        open_exact(tmp_path / "a.npy")
