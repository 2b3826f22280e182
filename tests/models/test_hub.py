"""Finding a saved model: folders, folders of runs, ids on the hub, and what is none of them."""

import errno
import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HFValidationError

from ccnet import CCNet, Predictor
from ccnet.models import hub
from ccnet.models.loading import load_model

READERS = [CCNet.from_pretrained, load_model, Predictor]


@pytest.fixture(params=READERS, ids=lambda reader: reader.__name__)
def read(request):
    return request.param


@pytest.fixture
def no_network(monkeypatch):
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(hub, name, lambda *_, **__: pytest.fail("looked up"))


@pytest.fixture
def hub_folder(tmp_path, tiny_model, monkeypatch):
    """A hub that has the tiny model under every id, and remembers what it was asked for."""
    tiny_model.save_pretrained(tmp_path / "hub")
    asked = []

    def download(model, name, **options):
        asked.append((model, name, options))
        return str(tmp_path / "hub" / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: None)
    return asked


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "folder",
    [
        "missing",
        "./missing",
        "../missing",
        "a/b/c",
        "~/missing",
        "a/b/",
        "/missing",
        "a b/c",
        "-a/b",
    ],
)
def test_a_missing_folder_is_named_and_not_looked_up(read, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    for given in (folder, Path(folder)):
        if isinstance(given, Path) and folder == "a/b/":  # without its slash it is an id
            continue
        with pytest.raises(FileNotFoundError, match=f"no model folder at {Path(folder)}$"):
            read(given)


@pytest.mark.usefixtures("no_network")
def test_a_missing_folder_below_one_that_is_there_is_no_hub_id(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no model folder at runs/model$"):
        read("runs/model")


@pytest.mark.usefixtures("no_network")
def test_a_file_is_no_model_folder(read, tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"no model folder at .*model\.pth: it is a file"):
        read(tmp_path / "model.pth")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("missing", [{"config.json"}, {"model.safetensors"}, None], ids=str)
def test_a_folder_without_a_model_is_named(read, tiny_model, tmp_path, missing):
    if missing is not None:  # None: an empty folder
        tiny_model.save_pretrained(tmp_path)
    for file in missing or ():
        (tmp_path / file).unlink()
    (file,) = missing or {"config.json"}
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} is no model folder: it has no {file}"):
        read(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_the_folder_of_a_run_gives_its_model_and_says_so(read, tiny_model, tmp_path, caplog):
    tiny_model.save_pretrained(tmp_path / "model")
    (tmp_path / "config.yaml").touch()
    loaded = read(str(tmp_path))
    model = loaded.model if isinstance(loaded, Predictor) else loaded
    assert model.arguments == tiny_model.arguments
    torch.testing.assert_close(model.state_dict(), tiny_model.state_dict())
    assert caplog.messages == [f"{tmp_path} is the folder of a run; reading its model from model"]


@pytest.mark.usefixtures("no_network")
def test_the_folder_of_a_run_whose_model_is_incomplete_is_told(read, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"model is no model folder: it has no model\.safet"
    ):
        read(tmp_path)


def test_a_hub_id_is_downloaded_with_its_options(read, hub_folder, tiny_model):
    loaded = read("some-one/my_net.v2")
    model = loaded.model if isinstance(loaded, Predictor) else loaded
    assert model.arguments == tiny_model.arguments
    assert [request[:2] for request in hub_folder] == [
        ("some-one/my_net.v2", "config.json"),
        ("some-one/my_net.v2", "model.safetensors"),
    ]
    CCNet.from_pretrained("some-one/my_net.v2", revision="v1", token=False)
    assert hub_folder[-1][2].items() >= {"revision": "v1", "token": False}.items()


@pytest.mark.parametrize("error", [OSError("no network"), HFValidationError("not an id")])
def test_a_hub_id_that_can_not_be_fetched_is_one_clear_error(read, monkeypatch, capsys, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    with pytest.raises(FileNotFoundError, match=rf"owner/name.*from the hub: {error}$"):
        read("owner/name")
    assert capsys.readouterr().err.startswith("no local folder owner/name; asking the Hugging Face")


def test_an_id_that_the_hub_refuses_is_one_clear_error(read):
    with pytest.raises(FileNotFoundError, match=r"owner/a--b, and none of that name from the hub"):
        read("owner/a--b")  # its library checks ids before it asks the network


def test_another_librarys_model_on_the_hub_is_told_by_its_id(read, hub_folder, tmp_path):
    (tmp_path / "hub" / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(ValueError, match=r"owner/name holds no usable model: .*num_classes"):
        read("owner/name")


# A hub that does not answer


@pytest.fixture
def no_answer(monkeypatch, tmp_path):
    """A hub on a port of this machine where nobody listens, and an empty cache."""
    local = partial(hf_hub_url, endpoint="http://127.0.0.1:9")
    monkeypatch.setattr(hub, "hf_hub_url", local)
    return tmp_path / "cache"


def test_a_hub_that_does_not_answer_is_told_soon_and_in_one_line(no_answer):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        CCNet.from_pretrained("owner/name", cache_dir=no_answer)
    assert time.monotonic() - start < 5
    assert str(caught.value).startswith("no model folder at owner/name, and none of that name from")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_without_an_answer_what_was_downloaded_before_is_used(no_answer, tiny_model):
    commit = "0" * 40
    snapshot = no_answer / "models--owner--name" / "snapshots" / commit
    tiny_model.save_pretrained(snapshot)
    (no_answer / "models--owner--name" / "refs").mkdir()
    (no_answer / "models--owner--name" / "refs" / "main").write_text(commit)
    loaded = CCNet.from_pretrained("owner/name", cache_dir=no_answer)
    assert loaded.arguments == tiny_model.arguments
    with pytest.raises(FileNotFoundError, match="none of that name from the hub"):
        CCNet.from_pretrained("owner/name", cache_dir=no_answer, force_download=True)


# Paths that are none


@pytest.mark.usefixtures("no_network")
def test_an_empty_path_is_an_error(read):
    with pytest.raises(ValueError, match="the path of the model is empty"):
        read("")


@pytest.mark.usefixtures("no_network")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_fifo_in_a_models_folder_is_refused(read, tiny_model, tmp_path, name):
    tiny_model.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: it is a FIFO \(named pipe\); only regular"):
        read(tmp_path)


@pytest.mark.usefixtures("no_network")
def test_what_can_not_be_looked_up_is_not_called_missing(read, tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="loop is no model folder: it is a loop of symbolic links"):
        read(tmp_path / "loop")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ValueError, match="private is no model folder: it cannot be read, since"):
        read(tmp_path / "private")
