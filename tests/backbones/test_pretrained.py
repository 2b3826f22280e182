"""Weights for backbones: every form of file, downloads with their hash, and what does not fit."""

import hashlib
import io
import pickle
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file

from ccnet import CCNet
from ccnet.backbones import MobileNetV2, ResNet, Tiny, create_backbone, load_pretrained, pretrained
from ccnet.backbones.layers import adapt_input

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("file", "prefix", "wrapper"),
    [
        ("weights.safetensors", "", None),
        ("weights.safetensors", "backbone.", None),
        ("weights.pth", "", None),
        ("weights.pt", "module.", "model"),
        ("weights.pth", "backbone.", "state_dict"),
        ("weights.pth", "module.backbone.", "state_dict"),
    ],
)
def test_weights_load_in_every_form(tmp_path, file, prefix, wrapper):
    source, target = Tiny(8), Tiny(8)
    state = {f"{prefix}{key}": value for key, value in source.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(state, tmp_path / file)
    else:
        torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / file)
    load_pretrained(target, tmp_path / file)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_weights_load_by_name(tmp_path):
    source = Tiny(8)
    torch.save(source.state_dict(), tmp_path / "tiny.pth")
    target = create_backbone("tiny", channels=8, pretrained=str(tmp_path / "tiny.pth"))
    torch.testing.assert_close(target.state_dict(), source.state_dict())


def test_classifier_and_batch_counts_may_differ(tmp_path):
    source = MobileNetV2()
    state = {k: v for k, v in source.state_dict().items() if "num_batches" not in k}
    state |= {"features.18.0.weight": torch.zeros(1280, 320, 1, 1)}
    state |= {"classifier.1.weight": torch.zeros(1000, 1280), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "weights.pth")
    target = create_backbone("mobilenet_v2", pretrained=tmp_path / "weights.pth")
    torch.testing.assert_close(target.state_dict(), source.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.0.weight"), r"1 missing \(conv1\.0\.weight\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda state: state.update({"conv1.1.bias": torch.zeros(3)}),
            r"1 of another shape \(conv1\.1\.bias \(3,\) for \(4,\)\)",
        ),
        (
            lambda state: state.update({f"head.{i}": torch.zeros(1) for i in range(5)}),
            r"5 unexpected \(head\.0, head\.1, head\.2, \.\.\.\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_counted_and_named(tmp_path, change, message):
    state = Tiny(8).state_dict()
    change(state)
    torch.save(state, tmp_path / "other.pth")
    target = Tiny(8)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=rf"other\.pth does not fit Tiny: {message}"):
        load_pretrained(target, tmp_path / "other.pth")
    torch.testing.assert_close(dict(target.state_dict()), before)


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("empty.pth", b"", "cannot be read"),
        ("text.pth", b"no weights at all", "cannot be read"),
        ("cut.pth", pickled(Tiny(8).state_dict())[:2000], "cannot be read"),
        ("text.safetensors", b"no weights at all", "cannot be read"),
        ("list.pth", pickled([1, 2]), "other than a state dict"),
        ("numbers.pth", pickled({"weight": 1}), "other than a state dict"),
        ("weights.bin", b"", r"from \.safetensors, \.pth or \.pt"),
    ],
)
def test_broken_files_are_named(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(Tiny(8), tmp_path / file)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.1.bias": torch.full((4,), float("inf"))}, "conv1.1.bias has nan, .* 4 of 4"),
        ({"conv1.1.running_var": -torch.ones(4)}, "conv1.1.running_var is a variance and has -1"),
        ({"conv1.1.bias": torch.ones(4, dtype=torch.int32)}, "1 of another type .*int32 for float"),
        ({"backbone.conv1.1.bias": torch.ones(4)}, "has two tensors for one weight of the backb"),
        ({"conv1.0.weight": torch.ones(4, 0, 3, 3)}, r"1 of another shape .*\(4, 0, 3, 3\)"),
        ({"conv1.0.weight": torch.ones(4)}, r"1 of another shape .*\(4,\)"),
    ],
)
def test_values_and_shapes_that_no_backbone_has_are_refused(tmp_path, change, words):
    torch.save(Tiny(8).state_dict() | change, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=rf"odd\.pth .*{words}"):
        create_backbone("tiny", channels=8, pretrained=tmp_path / "odd.pth")


def test_an_empty_path_is_an_error():
    with pytest.raises(ValueError, match="the path of the weight file is empty"):
        create_backbone("tiny", channels=8, pretrained="")


@pytest.mark.parametrize("shape", [(), (1,), (64,)])
def test_mits_names_with_odd_shapes_are_an_error(tmp_path, shape):
    state = ResNet(18, stem="deep_64").state_dict()
    names = {"stem.0.": "conv1.", "stem.6.": "conv3."}
    state = {names.get(key[:7], key[:7]) + key[7:]: value for key, value in state.items()}
    torch.save(state | {"conv1.weight": torch.ones(shape)}, tmp_path / "mit.pth")
    with pytest.raises(ValueError, match=r"mit\.pth does not fit ResNet: 1 of another shape"):
        create_backbone("resnet18", stem="deep_64", pretrained=tmp_path / "mit.pth")
    torch.save(state | {"stem.0.weight": torch.ones(1)}, tmp_path / "mit.pth")
    with pytest.raises(ValueError, match="two tensors for one weight of the backbone"):
        create_backbone("resnet18", stem="deep_64", pretrained=tmp_path / "mit.pth")


@pytest.mark.parametrize("file", ["none.pth", "none.safetensors"])
def test_missing_file_is_named(tmp_path, file):
    with pytest.raises(FileNotFoundError, match=file):
        load_pretrained(Tiny(8), tmp_path / file)


class Hostile:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_hostile_pickle_is_refused_unrun(tmp_path, save):
    trace = tmp_path / "it-ran"
    save({"weight": Hostile(trace)}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile\.pth cannot be read"):
        load_pretrained(Tiny(8), tmp_path / "hostile.pth")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists(), "the file above was harmless"


def test_published_imagenet_weights_load(shared_data):
    file = shared_data / "weights" / "mobilenet_v2_imagenet.safetensors"
    backbone = create_backbone("mobilenet_v2", pretrained=file).eval()
    assert backbone.get_buffer("features.0.1.running_var").std() > 0
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 64))
    assert all(features.isfinite().all() for features in maps)


# ImageNet and other places


class Handler(SimpleHTTPRequestHandler):
    requests: list[str] = []  # noqa: RUF012

    def log_message(self, *_):
        self.requests.append(self.path)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """A web site on this machine, with its folder; torch.hub's cache is a new one."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    Handler.requests.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder: Path, state: dict, name: str) -> str:
    """A weight file whose name ends in its hash, as torchvision's do."""
    content = pickled(state)
    file = f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / file).write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("name", "stem"), [("resnet18", None), ("mobilenet_v2", None), ("resnet50", "deep_32")]
)
def test_imagenet_weights_are_downloaded_once(site, monkeypatch, name, stem, capsys):
    url, folder = site
    options = {} if stem is None else {"stem": stem}
    source = create_backbone(name, **options)
    file = publish(folder, {**source.state_dict(), "fc.weight": torch.zeros(1)}, name)
    monkeypatch.setitem(pretrained.IMAGENET, (name, stem or "plain"), url + file)
    for _ in range(2):
        target = create_backbone(name, pretrained="imagenet", **options)
        torch.testing.assert_close(target.state_dict(), source.state_dict())
    assert len(Handler.requests) == 1
    shown = capsys.readouterr().err
    assert f"downloading {url}{file}" in shown
    assert "100%" in shown


def test_a_file_of_another_hash_is_refused_and_not_kept(site, tmp_path):
    url, folder = site
    torch.save(Tiny(8).state_dict(), folder / "tiny-0123abcd.pth")
    with pytest.raises(ValueError, match=r"tiny-0123abcd\.pth is not the file.*invalid hash"):
        create_backbone("tiny", channels=8, pretrained=url + "tiny-0123abcd.pth")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_without_a_network_the_error_says_where_to_put_the_file(site, tmp_path):
    url, _ = site
    with pytest.raises(
        OSError, match=r"none\.pth cannot be downloaded \(HTTP Error 404.*put the file"
    ):
        create_backbone("tiny", pretrained=url + "none.pth")
    closed = "http://127.0.0.1:9/weights.pth"
    with pytest.raises(OSError, match=r"refused.*put the file at .*weights\.pth") as caught:
        create_backbone("tiny", pretrained=closed)
    target = Path(str(caught.value).partition("put the file at ")[2].partition(" or ")[0])
    assert target.parent == tmp_path / "cache" / "hub" / "checkpoints"
    torch.save(Tiny(8).state_dict(), target)
    create_backbone("tiny", channels=8, pretrained=closed)


def test_two_urls_of_one_name_are_two_files(site):
    url, folder = site
    for run in ("first", "second"):
        source = Tiny(8)
        (folder / run).mkdir()
        torch.save(source.state_dict(), folder / run / "best.pth")
        target = create_backbone("tiny", channels=8, pretrained=f"{url}{run}/best.pth")
        torch.testing.assert_close(target.state_dict(), source.state_dict())


def test_a_download_that_is_cut_off_is_not_kept(site, tmp_path):
    url, folder = site
    content = pickled(Tiny(8).state_dict())
    (folder / "tiny.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"tiny\.pth gave no whole weight file"):
        create_backbone("tiny", channels=8, pretrained=url + "tiny.pth")
    assert list((tmp_path / "cache" / "hub" / "checkpoints").iterdir()) == []
    (folder / "tiny.pth").write_bytes(content)
    create_backbone("tiny", channels=8, pretrained=url + "tiny.pth")


def test_a_cached_file_is_checked_against_the_hash_in_its_name(site, tmp_path):
    url, folder = site
    file = publish(folder, Tiny(8).state_dict(), "tiny")
    create_backbone("tiny", channels=8, pretrained=url + file)
    torch.save(Tiny(8).state_dict(), tmp_path / "cache" / "hub" / "checkpoints" / file)
    with pytest.raises(ValueError, match=rf"{file} is not the file that its name says; remove it"):
        create_backbone("tiny", channels=8, pretrained=url + file)


def test_every_imagenet_file_names_its_hash():
    for (name, stem), url in pretrained.IMAGENET.items():
        assert create_on_meta(name, stem)
        assert len(url.rpartition("-")[2].removesuffix(".pth")) == 8


def create_on_meta(name: str, stem: str) -> bool:
    with torch.device("meta"):
        create_backbone(name, **({} if stem == "plain" else {"stem": stem}))
    return True


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tiny", {}, "no ImageNet weights are known for tiny with stem plain; for resnet18"),
        ("resnet152", {"stem": "deep_32"}, "for resnet152 with stem deep_32; for resnet18"),
        ("resnet101", {"stem": "deep_64"}, "MIT's weights.*pretrained=http.*resnet101-imagenet"),
    ],
)
def test_a_backbone_without_imagenet_weights_is_told_so(name, options, words):
    with pytest.raises(ValueError, match=words):
        create_backbone(name, pretrained="imagenet", **options)


def test_mits_resnet_loads_into_the_deep_stem_and_brings_its_normalization(tmp_path):
    options = {"stem": "deep_64", "dilation": "uniform", "ceil_mode": True}
    source = ResNet(50, **options).eval()
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    state = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    for key, value in source.state_dict().items():
        room, index, *rest = key.split(".")
        state[".".join([names[index], *rest]) if room == "stem" else key] = value
    torch.save(state, tmp_path / "resnet50-imagenet.pth")
    file = tmp_path / "resnet50-imagenet.pth"
    model = CCNet(2, "resnet50", channels=8, pretrained=file, **options).double().eval()
    source, images = source.double(), torch.rand(1, 3, 40, 40, dtype=torch.float64)
    with torch.no_grad():
        for got, expected in zip(model.backbone(images), source(images.flip(1)), strict=True):
            torch.testing.assert_close(got, expected)
    assert model.mean.flatten().tolist() == pytest.approx([122.679, 116.669, 104.007], abs=1e-3)
    assert model.std.flatten().tolist() == [1, 1, 1]


def test_a_resnet_of_mits_without_its_first_convolution_is_told(tmp_path):
    torch.save({"conv3.weight": torch.zeros(128, 64, 3, 3)}, tmp_path / "cut.pth")
    with pytest.raises(
        ValueError, match=r"cut\.pth does not fit ResNet: .*missing \(stem\.0\.weight"
    ):
        create_backbone("resnet50", stem="deep_64", pretrained=tmp_path / "cut.pth")


@pytest.mark.parametrize("in_channels", [1, 4, 7])
def test_weights_are_adapted_to_other_channels(tmp_path, in_channels):
    source = Tiny(8)
    torch.save(source.state_dict(), tmp_path / "tiny.pth")
    target = create_backbone(
        "tiny", channels=8, in_channels=in_channels, pretrained=tmp_path / "tiny.pth"
    )
    first = source.first_convolution
    weight = source.state_dict()[first]
    assert torch.equal(target.state_dict()[first], adapt_input(weight, in_channels))
    assert adapt_input(weight, in_channels).shape == (4, in_channels, 3, 3)
