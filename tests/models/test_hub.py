"""Finding a saved model: folders, folders of runs, ids on the hub, and what is none of them."""

from pathlib import Path

import pytest
import torch
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
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: pytest.fail("looked up"))


@pytest.fixture
def hub_folder(tmp_path, tiny_model, monkeypatch):
    """A hub that has the tiny model under every id, and remembers what it was asked for."""
    tiny_model.save_pretrained(tmp_path / "hub")
    asked = []

    def download(model, name, **options):
        asked.append((model, name, options))
        return str(tmp_path / "hub" / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
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
def test_a_hub_id_that_can_not_be_fetched_is_one_clear_error(read, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(FileNotFoundError, match=rf"owner/name.*from the hub: {error}"):
        read("owner/name")


def test_an_id_that_the_hub_refuses_is_one_clear_error(read):
    with pytest.raises(FileNotFoundError, match=r"owner/a--b, and none of that name from the hub"):
        read("owner/a--b")  # its library checks ids before it asks the network


def test_another_librarys_model_on_the_hub_is_told_by_its_id(read, hub_folder, tmp_path):
    (tmp_path / "hub" / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(ValueError, match=r"owner/name holds no usable model: .*num_classes"):
        read("owner/name")
