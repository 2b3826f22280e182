"""What is no weight file is called by its name, and what is no weight is refused."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save, save_file

from ccnet.weights import read_weights


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer)
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.pth", b"")
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
KINDS = {
    "a Git LFS pointer: fetch the file itself with `git lfs pull`": POINTER,
    "a web page: download the file itself": b"\n <!DOCTYPE html><html><body>Sign in</body></html>",
    "empty": b"",
    "compressed by gzip: unpack it first": gzip.compress(b"x"),
    "compressed by bzip2: unpack it first": bz2.compress(b"x"),
    "compressed by xz: unpack it first": lzma.compress(b"x"),
    "a tar archive: unpack it first": tar(),
    "an HDF5 file, as Keras writes": b"\x89HDF\r\n\x1a\n",
    "an ONNX model": b"\x08\x0a\x12\x07pytorch\x1a\x052.9.0" + bytes(50),
    "an image": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_often_taken_for_weights_is_called_by_its_name(tmp_path, kind, suffix):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(KINDS[kind])
    with pytest.raises(ValueError, match=rf"w\.{suffix} cannot be read as weights: it is {kind}"):
        read_weights(path)


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        ("safetensors", pickled(), "it is a file of torch.save: give it the suffix .pth"),
        ("safetensors", zipped(), "it is a file of torch.save"),
        ("safetensors", b"no weights at all", "it is of another kind, or damaged"),
        ("pth", save({"a": torch.ones(1)}), "it is a .safetensors file: give it this suffix"),
        ("pth", zipped(), r"it is a zip archive, but not one of torch\.save; unpack it first"),
        ("pth", b"no weights at all", "cut off, damaged or of another kind"),
    ],
)
def test_a_wrong_suffix_is_told(tmp_path, suffix, content, words):
    (tmp_path / f"w.{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_weights(tmp_path / f"w.{suffix}")


def safetensors(header: dict[str, object], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(first: int, last: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (safetensors({"a": entry(0, 4, [1])}, bytes(3)), "cut off, damaged"),
        (safetensors({"a": entry(0, 4, [10**9])}, bytes(4)), "cut off, damaged"),
        (safetensors({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)), "damaged"),
        (safetensors({"a": entry(0, 2**60, [2**58])}, bytes(4)), "damaged"),
        (safetensors({"a": entry(8, 4, [1])}, bytes(8)), "damaged"),
        (safetensors({}, length=10**6), "it is cut off: copy or download it again"),
        (safetensors({}, length=2**62), "a header of 4,611,686,018,427,387,904 bytes; at most 8"),
        (safetensors({"a": entry(0, 4, [1], "F4")}, bytes(4)), "damaged"),
        (safetensors({}), "something other than a state dict of tensors: nothing"),
    ],
    ids=["short", "large", "overlap", "far", "backwards", "cut", "header", "dtype", "nothing"],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path, content, words):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_weights(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 500


# What is no regular file, or cannot be read


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_only_regular_files_are_read(tmp_path, suffix):
    os.mkfifo(tmp_path / f"fifo.{suffix}")
    with pytest.raises(ValueError, match="it is a FIFO"):
        read_weights(tmp_path / f"fifo.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        read_weights(tmp_path / f"folder.{suffix}")
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="it is a device"):
        read_weights(tmp_path / f"device.{suffix}")


def test_what_can_not_be_read_is_not_called_missing(tmp_path, monkeypatch):
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ValueError, match=r"w\.safetensors: it cannot be read, since this user"):
        read_weights(tmp_path / "w.safetensors")


def test_an_empty_path_is_an_error():
    with pytest.raises(ValueError, match="the path of the weight file is empty"):
        read_weights("")


# Values


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("head.weight", [1.0, float("nan"), float("inf")], "head.weight has nan, .* in 2 of 3"),
        ("head.weight", [1.0, 2.0, -float("inf")], "in 1 of 3 values"),
        ("bn.running_var", [0.0, -0.5, 1.0], "bn.running_var is a variance and has -0.5"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_that_no_weight_has_are_refused(tmp_path, suffix, key, value, words, dtype):
    tensors = {"fine": torch.ones(2), key: torch.tensor(value, dtype=dtype)}
    path = tmp_path / f"w.{suffix}"
    (torch.save if suffix == "pth" else save_file)(tensors, path)
    with pytest.raises(ValueError, match=rf"w\.{suffix} holds no usable weights: .*{words}"):
        read_weights(path)


def test_what_float32_can_not_hold_is_refused_and_others_are_counted(tmp_path):
    wide = torch.tensor([1e300], dtype=torch.float64)
    save_file({"a": wide, "b": wide.clone(), "c": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"a has .* in 1 of 1 values, and 1 more tensors"):
        read_weights(tmp_path / "w.safetensors")


def test_float8_is_refused(tmp_path):
    save_file({"a": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"a is of torch\.float8_e4m3fn; float16, bfloat16"):
        read_weights(tmp_path / "w.safetensors")


def test_empty_tensors_and_integers_are_read(tmp_path):
    tensors = {"a": torch.ones(0), "b": torch.tensor(3), "c": torch.zeros(2)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.testing.assert_close(read_weights(tmp_path / "w.safetensors").tensors, tensors)
