"""Files of torch.save that are broken or hostile, in no more memory than they have bytes."""

import copy
import io
import random
import resource
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ccnet.weights import read_weights

pytestmark = pytest.mark.slow

OLD = {"_use_new_zipfile_serialization": False}


def state() -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0), "half": torch.ones(3, dtype=torch.float16)}


def saved(path: Path, content: object = None, **options: object) -> Path:
    torch.save(state() if content is None else content, path, **options)
    return path


def rewritten(path: Path, change=lambda name, data: data, compression=zipfile.ZIP_STORED) -> None:
    """Write all records of a file again."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, change(name, data))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_compressed_records_are_refused_and_not_inflated(tmp_path):
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(1)})
    bomb = bytes(1 << 29)
    rewritten(path, lambda name, data: bomb if name.endswith("/0") else data, zipfile.ZIP_DEFLATED)
    del bomb
    assert path.stat().st_size < 1 << 20
    before = peak()
    with pytest.raises(ValueError, match=r"w\.pth cannot be read as weights: its records are comp"):
        read_weights(path)
    assert peak() - before < 1 << 26


@pytest.mark.parametrize("same_name", [True, False])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_many_records_in_the_same_bytes_are_refused(tmp_path, same_name):
    path = saved(tmp_path / "w.pth", {"weight": torch.zeros(1000)})
    with zipfile.ZipFile(path, "a") as archive:
        (large,) = (entry for entry in archive.infolist() if entry.filename.endswith("data/0"))
        for index in range(5):
            twin = copy.copy(large)
            twin.filename = large.filename if same_name else f"w/data/{index + 1}"
            archive.filelist.append(twin)
        archive.writestr("w/more", b"")
    words = "not one of torch.save" if same_name else "its records overlap"
    with pytest.raises(ValueError, match=words):
        read_weights(path)


def test_a_directory_of_any_length_is_not_read(tmp_path):
    path = saved(tmp_path / "w.pth")
    with zipfile.ZipFile(path, "a") as archive:
        for index in range(70_000):
            entry = zipfile.ZipInfo(f"w/{index:020}")
            entry.header_offset = entry.CRC = 0
            archive.filelist.append(entry)
        archive.writestr("w/more", b"")
    with pytest.raises(ValueError, match="its directory is larger than 4,194,304 bytes"):
        read_weights(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"K\x06\x85", b"K\x07\x85", "larger than what is stored of it"),  # the shape
        (b"K\x06", b"K\x07", "record '0' does not fit the rest; the file is cut off or damaged"),
        (b"K\x06\x85", b"\x8a\x01\xfa\x85", "larger than what is stored of it"),  # −6
    ],
    ids=["shape", "record", "negative"],
)
def test_a_tensor_larger_than_its_record_is_refused(tmp_path, old, new, words):
    path = saved(tmp_path / "w.pth", {"weight": torch.arange(6.0)})
    rewritten(path, lambda name, data: data.replace(old, new) if "data.pkl" in name else data)
    with pytest.raises(ValueError, match=words):
        read_weights(path)


def test_a_tensor_larger_than_the_file_is_refused_in_the_old_form_too(tmp_path):
    path = saved(tmp_path / "w.pth", {"weight": torch.arange(6.0)}, **OLD)
    length = b"\x8a\x05\x00\x00\x00\x00\x40"  # 2³⁸
    key = torch.load(path)["weight"]
    assert key.numel() == 6
    path.write_bytes(path.read_bytes().replace(b"K\x06", length))
    before = peak()
    with pytest.raises(ValueError, match="does not fit the rest; the file is cut off or damaged"):
        read_weights(path)
    assert peak() - before < 1 << 26


def test_a_changed_byte_of_a_weight_is_noticed(tmp_path):
    path = saved(tmp_path / "w.pth")
    content = path.read_bytes()
    value = torch.arange(6.0).numpy().tobytes()
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, value[:-1] + b"\x41"))
    with pytest.raises(ValueError, match=r"damaged or of another kind \(BadZipFile: Bad CRC-32"):
        read_weights(path)


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])
def test_a_cut_or_changed_file_is_an_error_or_read_but_never_a_crash(tmp_path, options):
    whole = saved(tmp_path / "w.pth", **options).read_bytes()
    path, rng = tmp_path / "broken.pth", random.Random(0)
    for _ in range(300):
        content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.choice([0, 1, 3])):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        if bytes(content) == whole:
            continue
        path.write_bytes(content)
        message, size = "", 0
        try:
            size = sum(value.nbytes for value in read_weights(path).tensors.values())
        except ValueError as error:
            message = str(error)
        assert size <= 2 * len(content)
        assert len(message) < 500
        assert "\n" not in message


def test_a_long_text_beside_the_weights_is_read(tmp_path):
    log = "x" * (6 << 20)
    path = saved(tmp_path / "w.pth", {"state_dict": state(), "log": log})
    assert read_weights(path).metadata["log"] == log


def test_bytes_of_a_big_endian_machine_are_turned(tmp_path):
    path = saved(tmp_path / "w.pth", {"weight": torch.arange(6.0)})
    swapped = torch.arange(6.0).numpy().astype(">f4").tobytes()

    def change(name, data):
        return swapped if "data/" in name else b"big" if "byteorder" in name else data

    rewritten(path, change)
    assert torch.equal(read_weights(path).tensors["weight"], torch.arange(6.0))


@pytest.mark.parametrize("options", [{}, OLD], ids=["zip", "old"])
def test_tensors_may_share_what_is_stored(tmp_path, options):
    whole = torch.arange(12.0)
    content = {"a": whole[:4], "b": whole[4:].view(2, 4).T, "tied": whole[:4], "none": whole[:0]}
    tensors = read_weights(saved(tmp_path / "w.pth", content, **options)).tensors
    torch.testing.assert_close(tensors, content)


def test_a_zip_archive_of_other_files_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("weights.pth", b"")
    with pytest.raises(ValueError, match=r"a zip archive, but not one of torch\.save; unpack it"):
        read_weights(tmp_path / "w.pth")


def test_reading_takes_no_more_memory_than_the_file(tmp_path):
    path = saved(tmp_path / "w.pth", {str(i): torch.ones(1 << 22) for i in range(16)})
    read_weights(saved(tmp_path / "small.pth"))
    io.BytesIO(bytes(1 << 24)).close()
    before = peak()
    read_weights(path)
    assert peak() - before < 1.2 * path.stat().st_size
