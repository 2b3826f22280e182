"""Pickles that cost more than their length tells, or that are no plain tensors."""

import pickle
import time
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from ccnet.published import read_published
from ccnet.weights import read_weights
from tests.weights.test_reading import save_old, save_zip, text

warnings.filterwarnings("ignore", "Sparse CSR|The PyTorch API of nested|torch.quantize_per")


class Alien(torch.Tensor): ...


def flagged() -> torch.Tensor:
    tensor = torch.ones(3)
    tensor.flag = 1
    return tensor


SQUARE = torch.eye(4)
ODD = {
    "sparse": lambda: SQUARE.to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(SQUARE, 0.1, 0, torch.qint8),
    "meta": lambda: SQUARE.to("meta"),
    "nested": lambda: torch.nested.nested_tensor([SQUARE, SQUARE]),
}


def in_old_form(pickled: bytes, path: Path, keys: tuple[str, ...] = ()) -> Path:
    """A file of torch.save around a pickle."""
    heads = (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True})
    parts = [*(pickle.dumps(head, 2) for head in heads), pickled, pickle.dumps(list(keys), 2)]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize("kind", ODD)
def test_a_tensor_that_is_no_array_of_numbers_is_named(tmp_path, kind, save):
    save({"fine": torch.ones(2), "weight": ODD[kind]()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"a state dict of tensors: weight \(a {kind} tensor\)"):
        read_weights(tmp_path / "w.pth")
    save({"model": {"fine": torch.ones(2)}, "other": ODD[kind]()}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth").tensors) == ["fine"]


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (lambda: torch.ones(()).expand(10**10), "more elements than the file stores"),
        (lambda: torch.as_strided(torch.ones(300), (150,) * 4, (1, 1, 0, 0)), "more elements"),
        (lambda: torch._neg_view(torch.ones(3)), "no plain array of numbers"),
        (lambda: torch.ones(3, dtype=torch.complex64).conj(), "no plain array of numbers"),
        (lambda: SQUARE.as_subclass(Alien), "a tensor of a foreign class; save plain tensors"),
    ],
    ids=["expanded", "strided", "negated", "conjugated", "subclass"],
)
def test_a_tensor_that_is_not_what_the_file_stores_is_refused(tmp_path, save, tensor, words):
    save({"weight": tensor()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"w\.pth cannot be read as weights: .*{words}"):
        read_weights(tmp_path / "w.pth")


def test_attributes_of_a_tensor_are_left_out(tmp_path):
    torch.save({"a": flagged(), "b": torch.nn.Parameter(torch.ones(1))}, tmp_path / "w.pth")
    tensors = read_weights(tmp_path / "w.pth").tensors
    assert not hasattr(tensors["a"], "flag")
    assert [type(value) for value in tensors.values()] == [torch.Tensor] * 2


class Items:
    """Pickles as a dict with keys that are not hashed when it is written."""

    def __init__(self, key, pairs=False):
        self.key, self.pairs = key, pairs

    def __reduce__(self):
        if self.pairs:
            return OrderedDict, ([(self.key, 1)],)
        return OrderedDict, (), None, None, iter([(self.key, 1)])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("save", [save_zip, save_old])
def test_a_key_that_would_be_hashed_for_ever_is_refused(tmp_path, save, pairs):
    key = ()
    for _ in range(100):
        key = (key, key)
    save({"state_dict": {"a": torch.ones(1)}, "meta": Items(key, pairs)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="it has a nested tuple as a key"):
        read_weights(tmp_path / "w.pth")


MANY = 600_000
BOMBS = {
    "deep lists": (b"\x80\x02" + b"]" * MANY + b"a" * (MANY - 1) + b".", "more than 500,000 steps"),
    "deep tuples": (b"\x80\x02)" + b"\x85" * MANY + b".", "more than 500,000 steps"),
    "memo": (b"\x80\x02]r\xff\xff\xff\x7f.", "holds a list"),
    "integer": (b"\x80\x02}\x8a\x10" + b"\x01" * 16 + b"Ns.", "integer of more than 64 bits"),
    "text": (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00.", "cannot be read as weights"),
    "bytes": (b"\x80\x05\x96" + b"\xff" * 6 + b"\x00\x00.", "cannot be read as weights"),
    "frame": (b"\x80\x04\x95" + b"\xff" * 6 + b"\x00\x00.", "cannot be read as weights"),
    "classes": (
        b"\x80\x02]" + b"".join(b"cforeign\n%d\na" % i for i in range(2000)) + b".",
        "asks for more than 1,000 classes",
    ),
    "extension": (b"\x80\x02\x82\x01.", "cannot be read as weights"),
    "no opcode": (b"\x80\x02\xff.", "cannot be read as weights"),
    "no end": (b"\x80\x02}", "cannot be read as weights"),
    "sets": (b"\x80\x04\x8f(" + b")\x85\x85" + b"\x90.", "it has a nested tuple as a key"),
    "frozen": (b"\x80\x04(" + b")\x85\x85" + b"\x91.", "it has a nested tuple as a key"),
    "dict": (b"\x80\x02(" + b")\x85\x85" + b"Nd.", "it has a nested tuple as a key"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", BOMBS)
def test_a_pickle_that_costs_more_than_its_length_is_refused(tmp_path, kind):
    pickled, words = BOMBS[kind]
    start = time.process_time()
    with pytest.raises(ValueError, match=words) as caught:
        read_weights(in_old_form(pickled, tmp_path / "w.pth"))
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 500


TENSOR = (  # of the storage "0", which has four float32
    b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
    + text("0") + text("cpu") + b"K\x04tQK\x00K\x04\x85K\x01\x85\x89}tR"
)  # fmt: skip


@pytest.mark.parametrize(
    ("opcodes", "words"),
    [
        (TENSOR + b"(NNNtb", "changes a function of the reader"),  # BUILD
        (TENSOR + b"K\x00K\x01s", "changes an object of the reader"),  # SETITEM
        (TENSOR + b"(K\x00K\x01u", "changes an object of the reader"),  # SETITEMS
        (TENSOR + b"(K\x00\x90", "changes an object of the reader"),  # ADDITEMS
        (b"ctorch._utils\n_rebuild_parameter\n}b", "changes a function of the reader"),
        (b"cforeign\nConfig\n}b", "changes a function of the reader"),
    ],
    ids=["build", "setitem", "setitems", "additems", "function", "class"],
)
def test_what_the_reader_made_can_not_be_changed(tmp_path, opcodes, words):
    path = in_old_form(b"\x80\x02" + opcodes + b".", tmp_path / "w.pth", ("0",))
    with pytest.raises(ValueError, match=rf"{words}.*; nothing of it was run"):
        read_weights(path)


class Hidden:
    """Pickles as a dict in which an attribute hides a method."""

    def __reduce__(self):
        return OrderedDict, (), dict.fromkeys(("get", "values", "items", "keys"), 0), None, None


def test_metadata_have_their_methods(tmp_path):
    meta = read_weights_of({"model": {"a": torch.ones(1)}, "meta": Hidden()}, tmp_path).metadata
    assert dict(meta["meta"]) == {}
    assert meta["meta"].get("a") is None
    with pytest.raises(ValueError, match=r"w\.pth is no published CCNet.*it begins a"):
        read_published(tmp_path / "w.pth")


def read_weights_of(content, folder):
    torch.save(content, folder / "w.pth")
    return read_weights(folder / "w.pth")


def test_a_reader_of_another_version_of_python_is_not_needed(tmp_path):
    """Names of Python 2, and pairs as an argument of OrderedDict."""
    pairs = b"((" + text("a") + TENSOR + b"tt"
    pickled = b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R."
    path = in_old_form(pickled, tmp_path / "w.pth", ("0",))
    values = torch.arange(4.0)
    path.write_bytes(path.read_bytes() + (4).to_bytes(8, "little") + values.numpy().tobytes())
    assert torch.equal(read_weights(path).tensors["a"], values)
