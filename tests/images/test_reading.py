"""Image files of one, three and more channels as arrays, and which files are images."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import DataError
from ccnet.images.reading import (
    image_files,
    orientation_of,
    read_image,
    search_files,
    turned,
    viewed_size,
)
from tests.images.test_tiff import write_tiff


def sixteen_bits(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (9, 13, channels), np.uint16)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_come_as_they_are(tmp_path, channels):
    for image in (sixteen_bits(channels), sixteen_bits(channels).astype(np.uint8)):
        np.save(tmp_path / "a.npy", image)
        read = read_image(tmp_path / "a.npy", channels)
        assert read.dtype == image.dtype
        np.testing.assert_array_equal(read, image)
    np.save(tmp_path / "a.npy", image.astype(">u2"))
    assert read_image(tmp_path / "a.npy", channels).dtype.isnative


def test_an_array_without_a_channel_axis_is_gray(tmp_path):
    np.save(tmp_path / "a.npy", sixteen_bits(1)[:, :, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", 1), sixteen_bits(1))


def test_a_tiff_of_five_channels_keeps_its_bits(tmp_path):
    write_tiff(tmp_path / "a.tiff", sixteen_bits(5))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff", 5), sixteen_bits(5))


def test_a_gray_picture_keeps_its_bits_and_colors_become_gray(tmp_path):
    image = sixteen_bits(1)
    Image.fromarray(image[:, :, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1), image)
    Image.new("RGB", (4, 2), (90, 90, 90)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", 1).tolist() == [[[90]] * 4] * 2


def test_a_picture_with_alpha_has_four_channels(tmp_path):
    Image.new("RGBA", (4, 2), (1, 2, 3, 4)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 4)[0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_other_channels_than_wanted_are_told(tmp_path, channels):
    np.save(tmp_path / "a.npy", sixteen_bits(5))
    write_tiff(tmp_path / "a.tif", sixteen_bits(5))
    Image.new("RGB", (4, 2)).save(tmp_path / "a.png")
    for file, found in (("a.npy", 5), ("a.tif", 5), ("a.png", 3)):
        with pytest.raises(DataError, match=rf"{file}: {found} channels where {channels}"):
            read_image(tmp_path / file, channels)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3)), r"an array \(2, 2, 3\) of float64; save .* uint8 or uint16"),
        (np.zeros((2, 2, 3, 1), np.uint8), r"an array \(2, 2, 3, 1\) of uint8"),
    ],
)
def test_other_arrays_are_told(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: {words}"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("file", ["a.npy", "a.tif", "a.png"])
def test_missing_and_broken_files_are_named(tmp_path, file):
    with pytest.raises(DataError, match=rf"{file}: no such file"):
        read_image(tmp_path / file, 5)
    (tmp_path / file).write_bytes(b"nothing")
    with pytest.raises(DataError, match=file):
        read_image(tmp_path / file, 5)


def test_an_array_file_that_holds_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[257, 32896]], np.uint16), [1, 128]),
        (np.array([[[7, 7, 7, 0], [9, 9, 9, 255]]], np.uint8), [7, 9]),
        (np.array([[[7, 0], [9, 255]]], np.uint8), [7, 9]),
        (np.array([[False, True]]), [0, 255]),
    ],
    ids=["gray", "16-bit", "16-bit-middle", "rgba", "gray-alpha", "1-bit"],
)
def test_images_of_any_kind_become_rgb(tmp_path, stored: np.ndarray, expected: list[int]):
    Image.fromarray(stored).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.dtype, image.shape) == (np.uint8, (1, 2, 3))
    assert image[0].tolist() == [[value] * 3 for value in expected]


def test_float_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="mode 'F' has no known range"):
        read_image(tmp_path / "a.tif")


def test_image_files_are_found_in_all_folders_by_suffix_and_hidden_ones_are_not(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/d.npy", ".hidden.png", "notes.txt", "e.png/f.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a/c.jpeg", "a/d.npy", "b.PNG", "e.png/f.tif"]


def test_links_to_folders_are_followed_and_each_folder_is_searched_once(tmp_path):
    for name in ("in/real/a.png", "in/real/sub/b.png", "far/c.png", "far/sub/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    links = {"also": "real", "far": "../far", "deep": "../far/sub", "up": "..", "root": "/"}
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    (tmp_path / "far" / "back").symlink_to("../in")
    found = search_files(tmp_path / "in")
    names = [path.relative_to(tmp_path / "in").as_posix() for path in found.files]
    assert names == ["deep/d.png", "far/c.png", "real/a.png", "real/sub/b.png"]
    repeated = [path.relative_to(tmp_path / "in").as_posix() for path in found.repeated]
    assert repeated == ["also", "far/back", "far/sub", "root", "up"]


def test_nine_images_of_which_six_are_behind_links_are_nine(tmp_path):
    for folder in ("images", "a", "b"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            (tmp_path / folder / f"{index}.png").touch()
    for folder in ("a", "b"):
        (tmp_path / "images" / folder).symlink_to(tmp_path / folder)
    assert len(list(image_files(tmp_path / "images"))) == 9


def test_hidden_folders_and_files_are_left_out_and_counted(tmp_path):
    hidden = (".ipynb_checkpoints/a.png", "__MACOSX/._a.png", ".git/x.png", "._a.png")
    for name in (*hidden, "a.png", "a.json", "b.JSON", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = search_files(tmp_path)
    assert found.files == [tmp_path / "a.png"]
    assert [path.name for path in found.hidden] == [
        "._a.png",
        ".git",
        ".ipynb_checkpoints",
        "__MACOSX",
    ]
    assert found.others == {".json": 2}


def test_a_folder_with_a_hidden_name_may_be_searched(tmp_path):
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.png").touch()
    assert len(search_files(tmp_path / ".data").files) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_as_it_is_viewed_is_that_of_the_image(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (5, 3)).save(path, exif=exif)
    assert viewed_size(path) == read_image(path).shape[:2]
    assert viewed_size(path) == ((5, 3) if orientation > 4 else (3, 5))


def test_the_size_of_an_array_is_its_own(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 5, 3), np.uint8))
    assert viewed_size(tmp_path / "a.npy") == (3, 5)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (2, 4, 3)


@pytest.mark.parametrize("value", [b"six\0", b"\0\x06\0\0"], ids=["text", "number"])
def test_an_orientation_counts_beside_damaged_exif_data_and_text_is_none(tmp_path, value):
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    kind = 2 if value.startswith(b"six") else 3
    orientation = struct.pack(">HHI4s", 0x0112, kind, 4 if kind == 2 else 1, value)
    damaged = struct.pack(">HHII", 0x8769, 5, 7, 0xFFFFFFF0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + orientation + damaged + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    assert read_image(tmp_path / "a.jpg").shape == ((2, 4, 3) if kind == 2 else (4, 2, 3))


def test_what_cannot_be_read_is_found_too(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.png").touch()
    (tmp_path / "gone.png").symlink_to("nothing")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "linked").symlink_to("sub")
    (tmp_path / ".hidden.png").symlink_to("nothing")
    (tmp_path / "notes").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = [path.name for path in image_files(tmp_path)]
    assert found == ["fifo.png", "gone.png", "loop.png", "sub"]
    with pytest.raises(DataError, match="sub: it cannot be read, since this user has no perm"):
        image_files(tmp_path / "sub")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file"):
        image_files(tmp_path / "nowhere")


def test_a_folder_is_no_image_file(tmp_path):
    with pytest.raises(DataError, match="it is a folder; only regular files"):
        read_image(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_label_is_turned_as_its_image_is(tmp_path, orientation):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert orientation_of(tmp_path / "a.png") == orientation
    image = read_image(tmp_path / "a.png", 1)[:, :, 0]
    np.testing.assert_array_equal(turned(stored, orientation), image)


def test_arrays_and_damaged_tags_are_upright(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 3), np.uint8))
    assert orientation_of(tmp_path / "a.npy") == 1
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.new("L", (2, 2)).save(tmp_path / "a.png", exif=exif)
    assert orientation_of(tmp_path / "a.png") == 1
