"""Find the files of a saved model: in a folder, in the folder of a run, or on the hub."""

import logging
import re
import stat
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import HfHubHTTPError

from ccnet.runtime.files import cause_of, shown

LOG = logging.getLogger(__name__)

HUB_ID = r"\w[\w.-]*/\w[\w.-]*"
README = "README.md"
MODEL_FILES = (CONFIG_NAME, SAFETENSORS_SINGLE_FILE, README)
"""What a saved model consists of; README.md is its card."""
HUB_TIMEOUT = 5.0
"""Seconds in which the hub has to answer; without an answer, what was downloaded before is used."""
RUN_MODEL = "model"
"""Where a training run keeps its best model."""


def find_model_files(model: str | Path, **download: Any) -> tuple[Path, Path]:
    """The paths of config.json and model.safetensors.

    Args:
        model: the folder of a model, that of a training run, whose best model is meant, or an id
            on the hub, such as owner/name. Something that looks like an id is a folder if its
            parent folder exists.
        download: options of `huggingface_hub.hf_hub_download`, such as `revision`.

    Raises:
        FileNotFoundError: there is no such folder, it lacks one of the files, or the hub has no
            such model or does not answer.
        ValueError: the path is empty, or it cannot be looked up.
    """
    if not str(model):
        raise ValueError("the path of the model is empty; give a folder or an id on the hub")
    path = Path(model)
    kind = _kind(path)
    if kind is not None and stat.S_ISDIR(kind):
        return _files_in(path)
    if kind is not None:
        raise FileNotFoundError(
            f"no model folder at {path}: it is a file; give the folder that holds {CONFIG_NAME}, "
            "or turn published weights into a folder with `ccnet convert`"
        )
    if not re.fullmatch(HUB_ID, str(model)) or path.parent.exists():
        raise FileNotFoundError(f"no model folder at {_short(path)}")
    return _files_on_hub(str(model), **download)


def _kind(path: Path) -> int | None:
    """The mode of a file or folder; None where there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # no permission, a loop of links, a zero byte
        reason = cause_of(error) if isinstance(error, OSError) else str(error)
        raise ValueError(f"{_short(path)} is no model folder: {reason}") from error


def _short(path: Path) -> str:
    return str(path) if len(str(path)) < 300 else shown(str(path))


def _files_in(folder: Path) -> tuple[Path, Path]:
    if _kind(folder / CONFIG_NAME) is None and _kind(folder / RUN_MODEL / CONFIG_NAME) is not None:
        LOG.warning("%s is the folder of a run; reading its model from %s", folder, RUN_MODEL)
        folder = folder / RUN_MODEL
    for name in (CONFIG_NAME, SAFETENSORS_SINGLE_FILE):
        if _kind(folder / name) is None:
            raise FileNotFoundError(
                f"{folder} is no model folder: it has no {name}; a training run keeps its best "
                f"model in the folder `{RUN_MODEL}` inside it"
            )
    return folder / CONFIG_NAME, folder / SAFETENSORS_SINGLE_FILE


def _files_on_hub(model: str, **download: Any) -> tuple[Path, Path]:
    """Download what is not there yet; without an answer of the hub take what was downloaded before.

    Its library would try for 23 seconds to reach it.
    """
    problem = None
    if not download.get("local_files_only"):
        print(f"no local folder {model}; asking the Hugging Face hub for it", file=sys.stderr)
        problem = _problem_with_hub(model, download.get("revision"), download.get("token"))
    try:
        if problem is not None and download.get("force_download"):
            raise problem
        if problem is not None:
            download["local_files_only"] = True
        config, weights = (
            hf_hub_download(model, name, etag_timeout=HUB_TIMEOUT, **download)
            for name in (CONFIG_NAME, SAFETENSORS_SINGLE_FILE)
        )
    except Exception as error:  # of whichever library carries its requests
        raise FileNotFoundError(
            f"no model folder at {model}, and none of that name from the hub: "
            f"{_reason(error if problem is None else problem)}"
        ) from error
    if problem is not None:
        reason = _reason(problem)
        print(f"no answer of the hub ({reason}); using an earlier download", file=sys.stderr)
    return Path(config), Path(weights)


def _problem_with_hub(model: str, revision: str | None, token: Any) -> Exception | None:
    """Why the hub does not give this model now; None if it does."""
    try:
        url = hf_hub_url(model, CONFIG_NAME, revision=revision)
        get_hf_file_metadata(url, token=token, timeout=HUB_TIMEOUT)
    except Exception as error:  # of whichever library carries its requests
        return error
    return None


def _reason(error: Exception) -> str:
    """The first sentence of an error of the hub's library, which are long, or what it answered."""
    if isinstance(error, HfHubHTTPError):
        answers = {401: "it has no such model, or a token is needed", 404: "it has no such file"}
        code = error.response.status_code
        return f"{answers.get(code, 'it refused')} (HTTP {code})"
    first = re.split(r"[.!?]?\s*\n|[.!?]\s", str(error).strip())[0]
    return f"{first or type(error).__name__:.200}"
