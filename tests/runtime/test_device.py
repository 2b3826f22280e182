"""Devices and precisions: what is picked, and names that fit no device."""

import pytest
import torch

from ccnet.runtime import device as device_module
from ccnet.runtime.device import bfloat16_is_fast, cpu_has, pick_device, pick_precision

CPU = torch.device("cpu")
EPYC_GENOA = "flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n"
SAPPHIRE_RAPIDS = "flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n"
SKYLAKE = "flags\t\t: fpu avx2 avx512f\n"


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == expected
    assert pick_device("cpu") == pick_device("cpu:0") == CPU


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("foo", "auto, cpu, cuda, cuda:N or mps, got 'foo'"),
        ("xla", "auto, cpu, cuda, cuda:N or mps, got 'xla'"),
        ("meta", "auto, cpu, cuda, cuda:N or mps, got 'meta'"),
        ("", "got ''"),
        ("cuda", "no cuda device here; auto or cpu would work"),
        ("cpu:7", "no cpu:7 here; there is only one"),
    ],
)
def test_a_device_that_there_is_not_is_an_error(monkeypatch, device, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=words):
        pick_device(device)


def test_a_gpu_beyond_the_last_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="there is no cuda:2 here; the last is cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_bfloat16_is_fast_on_gpus_from_ampere_on(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert bfloat16_is_fast(torch.device("cuda")) == (capability >= (8, 0))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": False, "avx512_bf16": False}, "float32"),
    ],
    ids=["Sapphire Rapids", "Zen 4", "without"],
)
def test_automatic_precision_follows_what_torch_says_of_the_cpu(
    monkeypatch, capabilities, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_precision("auto", CPU) == expected


@pytest.mark.parametrize("capabilities", [None, dict, lambda: {"amx_bf16": False}])
@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [(EPYC_GENOA, True), (SAPPHIRE_RAPIDS, True), (SKYLAKE, False), (None, False)],
    ids=["Zen 4", "Sapphire Rapids", "Skylake", "no cpuinfo"],
)
def test_what_torch_does_not_tell_is_read_from_cpuinfo(
    monkeypatch, tmp_path, capabilities, cpuinfo, expected
):
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", capabilities, raising=False)
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(device_module, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu_has("avx512_bf16") == expected
    assert pick_precision("auto", CPU) == ("bfloat16" if expected else "float32")


def test_automatic_precision_is_float32_on_mps():
    assert pick_precision("auto", torch.device("mps")) == "float32"


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match="auto, float32, bfloat16, float16, got 'int8'"):
        pick_precision("int8", CPU)
