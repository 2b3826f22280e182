"""Which image belongs to which label, and what is said of files without a partner."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.pairs import say_notes, warn_of_shared, write_lists
from ccnet.datasets.scenes import Scenes
from ccnet.images.reading import IMAGE_SUFFIXES
from ccnet.layouts.search import find_pairs
from ccnet.runtime.files import DataError
from tests.datasets.conftest import CLASSES, IMAGE, LABEL, describe, save


@pytest.mark.parametrize(
    ("image", "label"),
    [("train/images/a.png", "train/labels/a.png"), ("images/train/a.JPG", "labels/train/a.png")],
)
def test_either_folder_layout_is_found(tmp_path: Path, image: str, label: str):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / image, IMAGE)
    save(tmp_path / label, LABEL)
    assert [FolderDataset(tmp_path).name(0)] == [image]


@pytest.mark.parametrize("separator", [" ", ",", "\t", " , "])
def test_list_file_pairs_any_names(tmp_path: Path, separator: str):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / "photos/x.png", IMAGE)
    save(tmp_path / "masks/y.png", LABEL)
    text = f"# image and label\n\nphotos/x.png{separator}masks/y.png\n"
    (tmp_path / "train.txt").write_text(text)
    assert FolderDataset(tmp_path).name(0) == "photos/x.png"


def test_hidden_and_foreign_files_are_left_alone(root: Path):
    for name in (".DS_Store", "._a.png", "notes.txt"):
        (root / "train/images" / name).write_text("x")
    assert len(FolderDataset(root)) == 2


def test_files_without_partner_are_named(root: Path):
    save(root / "train/images/lonely.jpg", IMAGE)
    save(root / "train/images/a.bmp", IMAGE)
    save(root / "train/labels/orphan.png", LABEL)
    save(root / "train/labels/lossy.jpg", LABEL)
    with pytest.raises(DataError) as caught:
        FolderDataset(root)
    # the first of two images of one name is paired, the second left over
    assert "images without a label (2): train/images/a.png, train/images/lonely.jpg" in str(
        caught.value
    )
    assert "labels without an image (2): train/labels/lossy.jpg, train/labels/orphan" in str(
        caught.value
    )
    assert len(FolderDataset(root, strict=False)) == 2


def test_listed_files_that_are_missing_are_named(tmp_path: Path):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / "x.png", IMAGE)
    (tmp_path / "train.txt").write_text("x.png y.png\np.png q.png\n")
    with pytest.raises(DataError, match=r"listed but missing \(3\): y\.png, p\.png, q\.png"):
        FolderDataset(tmp_path)
    assert find_pairs(tmp_path, "train").unmatched_images == (tmp_path / "x.png",)


@pytest.mark.parametrize("line", ["x.png", "a b c", "a,b,c"])
def test_list_line_that_is_no_pair_is_named(tmp_path: Path, line: str):
    (tmp_path / "train.txt").write_text(f"# header\n{line}\n")
    with pytest.raises(DataError, match=rf"train\.txt, line 2: must hold two paths.*'{line}'"):
        find_pairs(tmp_path, "train")


def test_missing_root_split_or_images_say_what_was_looked_for(root: Path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        FolderDataset(root / "nowhere")
    with pytest.raises(
        DataError,
        match=r"no split 'test'. Looked for test/images \+ test/labels; images/test \+ "
        r"labels/test; test\.txt; the folder holds: dataset\.yaml, train",
    ):
        FolderDataset(root, "test")
    (root / "val/images").mkdir(parents=True)
    (root / "val/labels").mkdir()
    with pytest.raises(DataError, match="there are no images"):
        FolderDataset(root, "val")


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_corrupt_file_is_named(root: Path, part: str, damage: str):
    path = root / "train" / part / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    save(path, noise)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:2000], "text": b"not an image", "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"train/{part}/a\.png: cannot be read as an image"):
        FolderDataset(root)[0]


def test_file_that_vanished_is_named(root: Path):
    dataset = FolderDataset(root)
    (root / "train/images/a.png").unlink()
    with pytest.raises(DataError, match=r"train/images/a\.png: no such file"):
        dataset[0]


def test_size_mismatch_names_both_sizes_and_files(root: Path):
    save(root / "train/labels/a.png", LABEL[:, :3])
    with pytest.raises(
        SizeMismatchError, match=r"images/a\.png is 4×2, its label .*labels/a\.png is 3×2\. Resize"
    ):
        FolderDataset(root)[0]


def test_photograph_is_turned_upright_and_a_label_of_the_stored_size_is_explained(root: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "train/images/a.png").unlink()
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(root / "train/images/a.jpg", exif=exif)
    with pytest.raises(SizeMismatchError, match=r"a\.jpg is 2×4, .* is 4×2\. .*EXIF orientation"):
        FolderDataset(root)[0]
    save(root / "train/labels/a.png", LABEL.T)
    image, label = FolderDataset(root)[0]
    assert image.shape == (4, 2, 3)
    np.testing.assert_array_equal(label, LABEL.T)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_label_drawn_on_the_photograph_as_viewed_fits_it(root: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "train/images/a.png").unlink()
    Image.fromarray(IMAGE).save(root / "train/images/a.tif", exif=exif)
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]  # quarter turns counterclockwise
    viewed = np.rot90(IMAGE, turns)
    save(root / "train/labels/a.png", np.ascontiguousarray(np.rot90(LABEL, turns)))
    image, label = FolderDataset(root)[0]
    np.testing.assert_array_equal(image, viewed)
    np.testing.assert_array_equal(label, np.rot90(LABEL, turns))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2)], ids=["other", "transposed"])
def test_size_mismatch_of_an_array_file_is_told_too(root: Path, shape: tuple[int, int]):
    (root / "train/images/a.png").unlink()
    np.save(root / "train/images/a.npy", IMAGE)
    save(root / "train/labels/a.png", np.zeros(shape, np.uint8))
    with pytest.raises(SizeMismatchError, match=r"a\.npy is 4×2, its label .* is .*\. Resize"):
        FolderDataset(root)[0]


def test_an_array_of_16_bits_is_refused_as_an_image_to_learn_from(root: Path):
    (root / "train/images/a.png").unlink()
    np.save(root / "train/images/a.npy", IMAGE.astype(np.uint16))
    with pytest.raises(DataError, match=r"a\.npy: holds uint16; save it as uint8"):
        FolderDataset(root)[0]


def test_a_list_is_only_read_where_it_may_be(tmp_path: Path):
    save(tmp_path / "x.png", IMAGE)
    (tmp_path / "train.txt").write_text("x.png x.png")
    with pytest.raises(DataError, match="no split 'train'"):
        find_pairs(tmp_path, "train", use_list=False)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_of_an_image_is_paired(tmp_path: Path, suffix: str):
    for path in (f"train/images/a{suffix.upper()}", "train/labels/a.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert len(find_pairs(tmp_path, "train").pairs) == 1


def test_a_folder_with_an_image_s_name_is_no_image(root: Path):
    (root / "train/images/c.png").mkdir()
    assert len(FolderDataset(root)) == 2


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("gone"), "it is a link to gone, which does not exist"),
        (lambda path: path.symlink_to(path), "it is a loop of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device; only regular files are read"),
        (fifo, r"it is a FIFO \(named pipe\); only regular files are read"),
    ],
    ids=["dangling", "loop", "device", "fifo"],
)
@pytest.mark.parametrize("part", ["images", "labels"])
def test_what_cannot_be_opened_is_told_and_never_opened(root: Path, part: str, make, words: str):
    path = root / "train" / part / "a.png"
    path.unlink()
    make(path)
    with pytest.raises(DataError, match=rf"train/{part}/a\.png: {words}\. Restore it; `ccnet ch"):
        FolderDataset(root)
    dataset = FolderDataset(root, strict=False)
    assert [dataset.name(index) for index in range(len(dataset))] == ["train/images/deep/b.png"]
    assert [error.path for error in dataset.files.unusable] == [path]
    assert dataset.files.unmatched_images == dataset.files.unmatched_labels == ()


def test_a_folder_without_permission_is_told(root: Path, monkeypatch):
    (root / "train/images/sub").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="train/images/sub: it cannot be read, since this user has"):
        FolderDataset(root)
    assert len(FolderDataset(root, strict=False)) == 2


def test_unreadable_folders_are_not_called_missing(root: Path, monkeypatch):
    stat = Path.stat

    def refuse(path, **options):
        if path.name == "images":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match="train/images: it cannot be read, since this user has no"):
        find_pairs(root, "train")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (fifo, "FIFO"),
        (Path.mkdir, "folder"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
    ],
    ids=["fifo", "folder", "device"],
)
def test_what_a_list_names_but_is_no_file_is_told_with_its_kind(tmp_path: Path, make, kind: str):
    describe(tmp_path, classes=CLASSES)
    save(tmp_path / "x.png", IMAGE)
    make(tmp_path / "y.png")
    (tmp_path / "train.txt").write_text("x.png y.png\n")
    with pytest.raises(DataError, match=rf"y\.png: it is a {kind}.*; only regular files are read"):
        FolderDataset(tmp_path)
    assert find_pairs(tmp_path, "train").missing == ()


def test_a_list_may_name_files_elsewhere(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    describe(root, classes=CLASSES)
    save(tmp_path / "x.png", IMAGE)
    save(tmp_path / "y.png", LABEL)
    (root / "train.txt").write_text(f"../x.png {tmp_path}/y.png\n")
    assert FolderDataset(root)[0][1].tolist() == LABEL.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x.png y.png\nx\xe4.png y.png\n".encode("latin-1"), "line 2: not text in UTF-8; save the"),
        (b"\nx\0.png y.png\n", r"line 2: must hold two paths, image and label, got 'x\\x00"),
        (b"x" * 100_000, "line 1: must hold two paths, .{,200} Use a comma"),
    ],
    ids=["encoding", "NUL", "long line"],
)
def test_a_list_that_is_no_text_is_told(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.txt, {words}"):
        find_pairs(tmp_path, "train")


@pytest.mark.slow
def test_a_list_without_end_is_not_read(tmp_path: Path):
    fifo(tmp_path / "train.txt")
    with pytest.raises(DataError, match=r"train\.txt: it is a FIFO"):
        find_pairs(tmp_path, "train")
    (tmp_path / "val.txt").touch()
    os.truncate(tmp_path / "val.txt", 5 << 30)  # takes no room on the disk
    with pytest.raises(DataError, match=r"val\.txt: larger than 268,435,456 bytes"):
        find_pairs(tmp_path, "val")


def test_images_that_are_learned_from_and_validated_on_are_told(root: Path, capsys):
    (root / "val.txt").write_text("train/images/a.png train/labels/a.png\n")
    training, validation = FolderDataset(root), FolderDataset(root, "val")
    warn_of_shared(training, validation)
    printed = capsys.readouterr().err
    assert "1 of 1 validation images are learned from too (train/images/a.png), so the" in printed
    save(root / "val/images/v.png", IMAGE)
    save(root / "val/labels/v.png", LABEL)
    (root / "val.txt").unlink()
    warn_of_shared(training, FolderDataset(root, "val"))
    assert not capsys.readouterr().err


def test_lists_of_a_data_set_are_splits_again(root: Path, tmp_path_factory, capsys):
    folder = tmp_path_factory.mktemp("lists")
    dataset = FolderDataset(root)
    write_lists(folder, train=dataset, scenes=Scenes())
    assert [path.name for path in folder.iterdir()] == ["train.txt"]
    again = FolderDataset(root, str(folder / "train.txt"))
    assert again.files.pairs == dataset.files.pairs
    (root / "train.txt").write_bytes((folder / "train.txt").read_bytes())
    say_notes(FolderDataset(root), FolderDataset(root))
    line = f"{root}: train.txt says the pairs, not the folders train/images + train/labels\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_gif_label_of_another_size_is_told_as_any_other(root: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(IMAGE).save(root / "train/images/c.jpg", exif=exif)
    save(root / "train/labels/c.gif", np.zeros((3, 3), np.uint8))
    dataset = FolderDataset(root)
    index = [dataset.name(i) for i in range(len(dataset))].index("train/images/c.jpg")
    with pytest.raises(SizeMismatchError, match=r"its label .*c\.gif is 3×3"):
        dataset[index]
    (problem,) = check_dataset(dataset).size_mismatches
    assert "c.gif is 3×3" in problem.message
    size = (2, 4) if orientation == 1 else (4, 2)
    save(root / "train/labels/c.gif", np.zeros(size, np.uint8))
    assert dataset[index][1].shape == size
    assert check_dataset(dataset).num_usable == 3
