"""What surrounds the package: its metadata, entry points of torch.hub, and the files of GitHub."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import ccnet
from ccnet.models.card import LINKS
from tests.conftest import small

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
URLS = PROJECT["project"]["urls"]
GITHUB = ROOT / ".github"
YAMLS = sorted(
    [*GITHUB.rglob("*.yml"), *ROOT.glob("*.yaml"), *ROOT.glob(".*.yaml"), *ROOT.glob("*.cff")]
)
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(path: Path):
    return yaml.safe_load(path.read_text())


def named(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, without versions."""
    return {re.split(r"[^\w.-]", text)[0].lower() for text in requirements}


def steps_of(workflow: Path) -> list[dict]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


def test_the_address_of_the_repository_is_the_same_everywhere():
    repository = URLS["Repository"]
    assert all(url.startswith(repository) for name, url in URLS.items() if name != "Paper")
    assert {
        "repo_url": repository,
        "docs_url": URLS["Documentation"],
        "paper_url": URLS["Paper"],
    } == LINKS
    assert read(ROOT / "CITATION.cff")["repository-code"] == repository


def test_the_version_is_the_same_everywhere():
    version = PROJECT["project"]["version"]
    assert ccnet.__version__ == read(ROOT / "CITATION.cff")["version"] == version


def test_a_citation_has_what_its_format_asks_for():
    citation = read(ROOT / "CITATION.cff")
    paper = citation["preferred-citation"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert all({"family-names", "given-names"} == author.keys() for author in paper["authors"])
    assert citation["license"] == PROJECT["project"]["license"]


def test_groups_name_extras_and_no_version_is_written_twice():
    """pip reads the extras, uv the groups: a package of a group has its version in a list above."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    known = named(
        [*project["dependencies"], *(text for extra in extras.values() for text in extra)]
    )
    for text in (text for group in groups.values() for text in group):
        own = re.fullmatch(r"criss-cross\[([\w,]+)\]", text)
        assert text in known if own is None else set(own[1].split(",")) <= extras.keys()


def test_a_build_of_torch_is_chosen_by_a_group_with_an_index_of_its_own():
    uv, groups = PROJECT["tool"]["uv"], PROJECT["dependency-groups"]
    builds = {entry["group"] for conflict in uv["conflicts"] for entry in conflict}
    indexes = {index["name"]: index for index in uv["index"]}
    assert all(index["explicit"] for index in indexes.values())
    for name in ("torch", "torchvision"):
        sources = {source["group"]: source["index"] for source in uv["sources"][name]}
        assert sources.keys() == builds == {g for g, packages in groups.items() if name in packages}
        assert set(sources.values()) == indexes.keys()
        for group, index in sources.items():
            assert indexes[index]["url"].endswith(f"/{group}")


def test_every_pinned_version_is_one_that_the_lists_allow():
    from packaging.requirements import Requirement

    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(text) for texts in lists for text in texts]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in requirements:
        if requirement.name in pins:
            assert pins[requirement.name] in requirement.specifier, requirement


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_services_are_mappings_in_plain_yaml(path):
    assert isinstance(read(path), dict)


def test_the_tests_of_the_service_run_on_every_python_that_is_promised():
    project = PROJECT["project"]
    (matrix,) = [
        job["strategy"]["matrix"] for job in read(GITHUB / "workflows/ci.yml")["jobs"].values()
    ]
    prefix = "Programming Language :: Python :: 3."
    promised = [
        name[len(prefix) - 2 :] for name in project["classifiers"] if name.startswith(prefix)
    ]
    assert matrix["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_calls_is_there_and_pinned(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    commands = "\n".join(step.get("run", "") for step in steps_of(path))
    assert set(re.findall(r"\bmake ([a-z]+)", commands)) <= TARGETS
    files = re.findall(r"\bbash (\S+)|(\b[\w./-]+\.(?:toml|cff|txt|py))\b", commands)
    assert files
    assert all((ROOT / (script or file)).exists() for script, file in files)
    for step in steps_of(path):
        assert "uses" in step or "run" in step
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
    for action, version in re.findall(r"uses: (\S+)(.*)", path.read_text()):
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", version), action


def test_only_the_job_that_publishes_may_and_it_builds_nothing():
    jobs = read(GITHUB / "workflows/release.yml")["jobs"]
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not [step for step in jobs["publish"]["steps"] if "run" in step]
    assert jobs["publish"]["steps"][-1]["with"]["attestations"] is True


@pytest.mark.parametrize("path", sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml")), ids=lambda p: p.stem)
def test_a_form_has_fields_that_github_knows(path):
    form = read(path)
    if path.stem == "config":
        assert form.keys() <= {"blank_issues_enabled", "contact_links"}
        return
    assert (
        {"name", "description", "body"} <= form.keys() <= {"name", "description", "labels", "body"}
    )
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids) > 0
    for field in form["body"]:
        assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert "value" in field["attributes"] or "label" in field["attributes"]


def test_hooks_before_a_commit_run_what_make_check_runs():
    hooks = [
        hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    entries = " ".join(hook["entry"] for hook in hooks)
    assert set(re.findall(r"\bmake ([a-z]+)", entries)) <= TARGETS
    assert all((ROOT / file).exists() for file in re.findall(r"tests/\S+", entries))
    for command in ("ruff format", "ruff check", "make types"):
        assert command in entries


class TestTorchHub:
    """From the checkout itself, as torch.hub loads it."""

    @pytest.fixture
    def model(self, tmp_path) -> Path:
        small().save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    def test_the_entry_points_are_those_that_it_names(self):
        import hubconf

        listed = {name for name in dir(hubconf) if callable(getattr(hubconf, name))}
        assert {name for name in listed if not name.startswith("_")} == set(hubconf.__all__)

    def test_a_model_and_its_predictor_are_loaded(self, model):
        network = torch.hub.load(str(ROOT), "ccnet", model, source="local")
        assert not network.training
        images = torch.zeros(1, 3, 32, 48, dtype=torch.uint8)
        labels = network(network.normalize(images)).argmax(1)
        predictor = torch.hub.load(str(ROOT), "Predictor", model, source="local", device="cpu")
        assert (torch.from_numpy(predictor.predict(images[0])) == labels[0]).all()

    def test_the_module_is_made_with_its_options(self):
        name = "RecurrentCrissCrossAttention"
        module = torch.hub.load(str(ROOT), name, 16, source="local", recurrence=3)
        features = torch.randn(1, 16, 4, 5)
        assert torch.equal(module(features), features)
        assert module.recurrence == 3

    def test_a_pickle_in_the_place_of_weights_is_not_run(self, model, tmp_path):
        import pickle

        class Hostile:
            def __reduce__(self):
                return Path.touch, (tmp_path / "it ran",)

        (model / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
        with pytest.raises(ValueError, match="holds no usable model"):
            torch.hub.load(str(ROOT), "ccnet", model, source="local")
        assert not (tmp_path / "it ran").exists()

    def test_its_packages_are_dependencies(self):
        import hubconf

        imports = {"PIL": "pillow", "yaml": "pyyaml", "huggingface_hub": "huggingface-hub"}
        needed = {imports.get(name, name) for name in hubconf.dependencies}
        assert needed <= named(PROJECT["project"]["dependencies"])
