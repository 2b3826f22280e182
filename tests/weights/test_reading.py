"""Weight files in every form; foreign objects stay inert, and hostile files don't run."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from ccnet.weights import Placeholder, read_weights


def state() -> OrderedDict[str, Tensor]:
    return OrderedDict(
        weight=torch.arange(6.0).view(2, 3).T,
        half=torch.ones(3, dtype=torch.bfloat16),
        count=torch.tensor(7),
        parameter=nn.Parameter(torch.ones(2)),
    )


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_old(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_plain(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert got[key].dtype == value.dtype
        assert torch.equal(got[key], value)
        assert not got[key].requires_grad


@pytest.mark.parametrize("save", [save_zip, save_old])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."],
)
def test_state_dicts_are_found_in_every_form(tmp_path, save, wrapper, prefix):
    content = OrderedDict((prefix + key, value) for key, value in state().items())
    save(content if wrapper is None else {wrapper: content, "epoch": 3}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert_same(weights.tensors, state())
    assert weights.metadata == ({} if wrapper is None else {"epoch": 3})


def test_safetensors_are_read(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "w.safetensors")
    assert_same(read_weights(tmp_path / "w.safetensors").tensors, {"weight": torch.ones(2)})


@pytest.mark.parametrize("save", [save_zip, save_old, save_file])
def test_tensors_are_on_the_cpu_whatever_the_default_device(tmp_path, save):
    path = tmp_path / ("w.safetensors" if save is save_file else "w.pth")
    save({"weight": torch.ones(2)}, path)
    with torch.device("meta"):
        assert_same(read_weights(path).tensors, {"weight": torch.ones(2, device="cpu")})


# Foreign objects


@pytest.fixture
def foreign():
    """A package that is there while a file is written, and gone when it is read."""
    module = ModuleType("mmtrain")
    code = """
class Config(dict): ...
class Log(list): ...
class Buffer:
    def mean(self): ...
    def __init__(self):
        self.statistics = [Buffer.mean]
class Point(tuple): ...
class Reduced:
    def __reduce__(self):
        return Reduced, (1, 2), {"state": 3}, iter([4]), iter([("key", 5)])
"""
    sys.modules["mmtrain"] = module
    exec(code, module.__dict__)
    yield module
    sys.modules.pop("mmtrain", None)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("save", [save_zip, save_old])
def test_tensors_are_read_beside_foreign_objects(tmp_path, foreign, save, protocol):
    meta = {
        "config": foreign.Config(lr=0.1, nested=foreign.Config()),
        "log": foreign.Log([1, foreign.Buffer()]),
        "point": foreign.Point((1, 2)),
        "reduced": foreign.Reduced(),
        "losses": np.arange(3.0),
        "loss": np.float64(0.5),
        "folder": Path("runs"),
        "bytes": b"\xff\x00",
        "counts": defaultdict(int, a=1),
        "classes": ("road", "sky"),
    }
    old = save is save_old
    torch.save(
        {"meta": meta, "state_dict": state()},
        tmp_path / "w.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not old,
    )
    sys.modules.pop("mmtrain")
    weights = read_weights(tmp_path / "w.pth")
    assert_same(weights.tensors, state())
    read = weights.metadata["meta"]
    assert read["classes"] == ("road", "sky")
    for name in ("config", "log", "point", "reduced", "losses", "folder"):
        assert isinstance(read[name], Placeholder), name
        assert not vars(read[name]), "it kept what it was given"


def test_a_foreign_package_is_not_imported(tmp_path, monkeypatch):
    trace = tmp_path / "it-ran"
    (tmp_path / "stranger.py").write_text(
        f"from pathlib import Path\nPath({str(trace)!r}).touch()\nclass Config: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stranger = import_module("stranger")
    torch.save({"state_dict": state(), "meta": stranger.Config()}, tmp_path / "w.pth")
    monkeypatch.delitem(sys.modules, "stranger")
    trace.unlink()
    assert_same(read_weights(tmp_path / "w.pth").tensors, state())
    assert "stranger" not in sys.modules
    assert not trace.exists()


# Hostile files


class Call:
    """Pickles as a call, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Called(Call):
    """The same, where a function is wanted."""

    def __call__(self): ...


def inner_file(trace: Path, save=pickle.dump) -> bytes:
    buffer = io.BytesIO()
    save(Call(os.mkdir, str(trace)), buffer)
    return buffer.getvalue()


HOSTILE = {
    "system": lambda trace: Call(os.system, f"mkdir '{trace}'"),
    "mkdir": lambda trace: Call(os.mkdir, str(trace)),
    "process": lambda trace: Call(subprocess.check_call, ["mkdir", str(trace)]),
    "write": lambda trace: Call(Path.write_text, trace, "it ran"),
    "eval": lambda trace: Call(eval, f"open({str(trace)!r}, 'w').close()"),
    "exec": lambda trace: Call(exec, f"open({str(trace)!r}, 'w').close()"),
    "method": lambda trace: Call(Path.mkdir, trace),
    "getattr": lambda trace: Call(Called(getattr, Call(import_module, "os"), "mkdir"), str(trace)),
    "pickle": lambda trace: Call(pickle.loads, inner_file(trace)),
    "storage": lambda trace: Call(torch.storage._load_from_bytes, inner_file(trace, torch.save)),
}


@pytest.mark.parametrize("save", [save_zip, save_old, save_plain])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_is_refused_unrun(tmp_path, kind, save):
    trace = tmp_path / "it-ran"
    save({"state_dict": state(), "meta": HOSTILE[kind](trace)}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile\.pth cannot be read.*nothing of it was run"):
        read_weights(tmp_path / "hostile.pth")
    assert not trace.exists()
    pickle.loads(pickle.dumps(HOSTILE[kind](trace)))
    assert trace.exists(), "the file above was harmless"


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def test_functions_of_the_reader_can_not_be_changed(tmp_path):
    """BUILD would make a rebuilding function look like a module whose source torch writes down."""
    trace = tmp_path / "it-ran"
    build = (
        b"N}" + text("dump_patches") + b"\x88s" + text("__name__") + text(str(trace)) + b"s\x86b"
    )
    source = text("a.py") + text("import os")
    module = b"(" + text("module") + b"ctorch._utils\n_rebuild_tensor_v2\n" + build + source + b"tQ"
    foreign = text("meta") + b"cforeign.pkg\nConfig\n)Rs"
    pickled = b"\x80\x02}" + text("state_dict") + b"}s" + foreign + text("x") + module + b"s."
    heads = (MAGIC_NUMBER, PROTOCOL_VERSION, {"protocol_version": 1001, "little_endian": True})
    parts = [*(pickle.dumps(head, 2) for head in heads), pickled, pickle.dumps([], 2)]
    (tmp_path / "hostile.pth").write_bytes(b"".join(parts))
    with pytest.raises(
        ValueError, match=r"changes a function of the reader; nothing of it was run"
    ):
        read_weights(tmp_path / "hostile.pth")
    assert torch._utils._rebuild_tensor_v2.__name__ == "_rebuild_tensor_v2"
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_a_call_among_the_tensors_and_behind_a_foreign_class_is_refused(tmp_path, foreign, save):
    trace = tmp_path / "it-ran"
    config = foreign.Config(run=Call(os.mkdir, str(trace)))
    save({"state_dict": {**state(), "weight": config}}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"asks for \w+\.mkdir"):
        read_weights(tmp_path / "hostile.pth")
    assert not trace.exists()


def test_a_foreign_object_in_a_tensors_place_is_named(tmp_path, foreign):
    torch.save({**state(), "weight": foreign.Config()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="other than a state dict of tensors: weight"):
        read_weights(tmp_path / "w.pth")


class Shadowed:
    """Pickles as a dict whose methods are hidden by attributes."""

    def __reduce__(self):
        names = dict.fromkeys(("get", "items", "keys", "values"), 0)
        return OrderedDict, (), names, None, iter(state().items())


@pytest.mark.parametrize("save", [save_zip, save_old])
def test_attributes_of_a_dict_hide_nothing(tmp_path, save):
    save({"state_dict": Shadowed()}, tmp_path / "w.pth")
    assert_same(read_weights(tmp_path / "w.pth").tensors, state())


def test_a_torchscript_archive_is_refused(tmp_path):
    torch.save(state(), tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps(()))
    with pytest.raises(ValueError, match=r"w\.pth cannot be read"):
        read_weights(tmp_path / "w.pth")


def test_a_whole_pickled_network_is_told(tmp_path):
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "network.pth")
    with pytest.raises(ValueError, match=r"Conv2d.*is it a whole network\? Save its state_dict"):
        read_weights(tmp_path / "network.pth")


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"model": {}, "epoch": 1}])
def test_an_empty_file_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty\.pth holds something other"):
        read_weights(tmp_path / "empty.pth")


def network() -> nn.Sequential:
    return nn.Sequential(OrderedDict(first=nn.Linear(2, 3), last=nn.Linear(3, 2)))


def compiled_part(whole: nn.Sequential) -> nn.Module:
    return nn.Sequential(OrderedDict(first=torch.compile(whole.first), last=whole.last))


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        AveragedModel,
        compiled_part,
        lambda whole: nn.DataParallel(torch.compile(whole)),
        lambda whole: torch.compile(nn.DataParallel(whole)),
        lambda whole: AveragedModel(torch.compile(whole)),
        lambda whole: nn.DataParallel(AveragedModel(compiled_part(whole))),
    ],
)
def test_wrapped_networks_give_the_names_of_the_network_itself(tmp_path, wrap):
    whole = network()
    wrapped = wrap(whole).state_dict()
    assert wrapped.keys() != whole.state_dict().keys()
    torch.save(wrapped, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert_same(weights.tensors, whole.state_dict())
    assert weights.metadata == {key[-10:]: v for key, v in wrapped.items() if "n_averaged" in key}


def test_two_tensors_of_one_name_are_an_error(tmp_path):
    torch.save({"module.a": torch.zeros(1), "a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth has two tensors for a: module\.a and a"):
        read_weights(tmp_path / "w.pth")
