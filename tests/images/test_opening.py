"""Files that only look like images: what they are is told, nothing runs, and memory is bounded."""

import io
import os
import re
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.images.opening import (
    MAX_PIXELS,
    SizeError,
    listing_error,
    obstacle_to,
    without_warnings,
)
from ccnet.images.reading import read_image
from ccnet.runtime.files import DataError

COLORS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8))


def encoded(format: str, picture: Image.Image = COLORS, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def png(width: int, height: int, pixels: bytes = b"", extra: bytes = b"") -> bytes:
    """A grayscale PNG that says what it likes about itself."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + rest


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header states another size."""
    content = encoded("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def message_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message.removeprefix(f"{path}: ")


def test_postscript_in_an_image_s_name_starts_no_program(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    header = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(header)
    # in a process of its own, since Pillow looks for the program once
    program = (
        f"from ccnet.images.reading import read_image; read_image({str(tmp_path / 'photo.jpg')!r})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "cannot be read as an image, since it is PostScript; save it as JPEG" in run.stderr
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded("GIF"), "it is a GIF; save it as JPEG, PNG, BMP, WebP or TIFF"),
        (encoded("JPEG2000"), "it is JPEG 2000; save it as"),
        (encoded("PDF"), "it is a PDF; save it as"),
        (encoded("ICO"), "it is of no known format"),
        (b"8BPS\0\1", "it is a Photoshop file"),
        (b"\n<!DOCTYPE HTML><html>", "it is an HTML page; download the image itself"),
        (b"version https://git-lfs.github.com/spec", "it is a Git LFS pointer; `git lfs pull`"),
        (b"PK\x03\x04", "it is a zip archive; unpack it"),
        (b"", "it is empty. Restore the file"),
        (b"no image", "it is of no known format. Restore the file"),
    ],
    ids=lambda value: value[:12].strip().decode("latin-1") if isinstance(value, bytes) else "",
)  # fmt: skip
def test_other_content_than_images_is_called_by_its_name(tmp_path, content, words):
    assert f"cannot be read as an image, since {words}" in message_of(tmp_path / "a.png", content)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WebP", "TIFF", "MPO"])
def test_the_content_decides_not_the_suffix(tmp_path, format):
    (tmp_path / "a.npy").write_bytes(encoded(format))
    assert read_image(tmp_path / "a.npy").shape == (64, 48, 3)


def test_an_array_may_have_any_suffix_too(tmp_path):
    np.save(tmp_path / "a.npy", np.asarray(COLORS))
    (tmp_path / "a.npy").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(COLORS))


def large_webp() -> bytes:
    content = encoded("WebP", save_all=True, append_images=[COLORS.rotate(90)])
    assert content[12:16] == b"VP8X"
    return content[:24] + (11999).to_bytes(3, "little") * 2 + content[30:]


@pytest.mark.parametrize(
    "content",
    [
        jpeg_of_size(12000, 12000),
        png(12000, 12000),
        encoded("BMP")[:18] + struct.pack("<ii", 12000, 12000) + encoded("BMP")[26:],
        large_webp(),
    ],
    ids=["JPEG", "PNG", "BMP", "WebP"],
)
def test_too_many_pixels_are_told_before_anything_is_decoded(tmp_path, content):
    message = message_of(tmp_path / "a.png", content)
    limit = "12000×12000 pixels, more than the limit of 50 million per image"
    assert message == f"{limit}; split it, or scale it down."


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WebP", "TIFF", "NPY"])
def test_the_limit_of_pixels_is_the_caller_s(tmp_path, format):
    path = tmp_path / "a"
    if format == "NPY":
        with path.open("wb") as file:
            np.save(file, np.asarray(COLORS))
    else:
        path.write_bytes(encoded(format))
    assert read_image(path, 3, 64 * 48).shape == (64, 48, 3)
    with pytest.raises(SizeError, match=r"48×64 pixels, more than the limit of 0\.003 mill") as e:
        read_image(path, 3, 3000)
    assert e.value.needed == 64 * 48


def test_the_limit_itself_is_allowed_and_pillow_s_own_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    assert read_image(tmp_path / "a.png").shape == (64, 48, 3)
    words = message_of(tmp_path / "b.png", png(MAX_PIXELS + 1, 1))
    assert words.startswith("50000001×1 pixels, more than the limit")
    assert "truncated" in message_of(tmp_path / "b.png", png(MAX_PIXELS, 1))


@pytest.mark.parametrize("content", [png(0, 4), jpeg_of_size(0, 4)], ids=["PNG", "JPEG"])
def test_no_pixels_are_told(tmp_path, content):
    words = "0×4 pixels, where an image has at least one|its header is damaged"
    assert re.search(words, message_of(tmp_path / "a.png", content))


def test_a_jpeg_too_small_for_its_pixels_is_damaged(tmp_path):
    words = "bytes cannot hold the 7000×7000 pixels that its header states"
    assert words in message_of(tmp_path / "a.jpg", jpeg_of_size(7000, 7000))
    flat = encoded("JPEG", Image.new("L", (3000, 2000)), progressive=True, optimize=True)
    (tmp_path / "flat.jpg").write_bytes(flat)
    assert read_image(tmp_path / "flat.jpg").shape == (2000, 3000, 3)


def test_a_jpeg_of_a_thousand_scans_is_not_decoded(tmp_path):
    content = encoded("JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    bomb = content[:last] + content[last:-2] * 1000 + b"\xff\xd9"
    assert "scans, which is too many" in message_of(tmp_path / "a.jpg", bomb)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_a_compressed_text_of_gigabytes_is_not_unpacked(tmp_path, kind):
    bomb = chunk(kind, b"x\0\0" + zlib.compress(bytes(100_000_000)))
    assert "too large" in message_of(tmp_path / "a.png", png(2, 2, bytes(6), bomb))


def test_a_picture_file_of_gigabytes_is_not_read(tmp_path):
    content = encoded("WebP")
    (tmp_path / "a.webp").write_bytes(content)
    os.truncate(tmp_path / "a.webp", 3 << 30)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a\.webp: larger than 500 MB, which no picture"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("place", ["content", "checksum"])
def test_a_changed_bit_in_the_pixels_of_a_png_is_seen(tmp_path, place):
    content = bytearray(encoded("PNG"))
    content[content.index(b"IDAT") + 50 if place == "content" else -15] ^= 1
    assert "the checksum of its pixels is wrong" in message_of(tmp_path / "a.png", bytes(content))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "WebP", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_errors(tmp_path, format, share):
    options = {"lossless": True} if format == "WebP" else {}
    content = encoded(format, **options)
    message_of(tmp_path / "a.png", content[: int(share * len(content))])


def test_the_first_of_several_pictures_counts(tmp_path):
    others = [Image.new("RGB", COLORS.size)] * 30
    for format, options in (("TIFF", {}), ("WebP", {"lossless": True}), ("PNG", {})):
        path = tmp_path / f"a.{format}"
        path.write_bytes(encoded(format, save_all=True, append_images=others, **options))
        np.testing.assert_array_equal(read_image(path), np.asarray(COLORS))


@pytest.mark.parametrize(
    "damage",
    [
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"eXIf", b"no EXIF data"),
        chunk(b"acTL", bytes(8)),
    ],
    ids=["truncated", "text", "animation"],
)
def test_damage_beside_the_pixels_gives_the_picture_without_a_warning(tmp_path, damage):
    (tmp_path / "a.png").write_bytes(png(2, 2, bytes(6), damage))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "a.png").shape == (2, 2, 3)
    assert caught == []


def test_filters_of_warnings_are_as_before_after_many_threads():
    before = list(warnings.filters)
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        for _ in range(50):
            with without_warnings():
                pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fifo, r"it is a FIFO \(named pipe\); only regular files are read"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device; only regular files are read"),
        (Path.mkdir, "it is a folder; only regular files are read"),
        (lambda path: path.symlink_to("gone"), "it is a link to gone, which does not exist"),
        (lambda path: path.symlink_to(path), "it is a loop of symbolic links"),
        (lambda path: None, "no such file"),
    ],
    ids=["fifo", "device", "folder", "dangling", "loop", "missing"],
)  # fmt: skip
def test_what_is_no_regular_file_is_not_opened(tmp_path, make, words):
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(DataError, match=rf"x\.png: {words}\."):
        read_image(path)
    assert re.search(words, str(obstacle_to(path)))


def test_a_name_that_no_file_can_have_is_told(tmp_path):
    with pytest.raises(DataError, match="no file has such a name"):
        read_image(tmp_path / "a\0.png")


def test_unreadable_files_and_folders_are_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded("PNG"))

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match=r"a\.png: it cannot be read, since this user has no perm"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(os, "scandir", refuse)
    assert isinstance(listing_error(tmp_path), PermissionError)
    with pytest.raises(DataError, match="it cannot be read, since this user has no permission"):
        read_image(tmp_path)
