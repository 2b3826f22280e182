"""The formats of an exported file: how each is written, and how it is opened again."""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ccnet.export.deployed import Deployed

Run = Callable[[Tensor], list[Tensor]]
"""From images to the outputs of a file, on the CPU."""


@dataclass(frozen=True)
class Format:
    """One format of an exported file."""

    suffix: str
    write: Callable[[ExportedProgram, Deployed, Path], None]
    open: Callable[[Path], Run]


def write_onnx(program: ExportedProgram, deployed: Deployed, path: Path) -> None:
    with without_deprecation_warnings():
        written = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=deployed.outputs,
            dynamic_shapes=deployed.dynamic_shapes,
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    written.model.metadata_props.update(deployed.json_facts)
    for node in written.model.graph:
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    written.save(path)  # in Python, which raises on a full disk


def open_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # times are compared with PyTorch's
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(None, {"images": images.numpy()})]

    return run


def write_torch_export(program: ExportedProgram, deployed: Deployed, path: Path) -> None:
    extra = {"ccnet.json": json.dumps(deployed.facts, indent=2, ensure_ascii=False)}
    buffer = io.BytesIO()  # on a full disk, PyTorch's own writer aborts the process
    torch.export.save(program, buffer, extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def open_torch_export(path: Path) -> Run:
    with without_deprecation_warnings():
        module = torch.export.load(path).module()
    return runs(module)


def write_aot(program: ExportedProgram, deployed: Deployed, path: Path) -> None:
    options: dict[str, Any] = {
        "aot_inductor.metadata": deployed.json_facts,
        # it would order the strides of attention weights by sizes that are not known, and fails
        "layout_optimization": False,
    }
    buffer = io.BytesIO()  # as in write_torch_export
    try:
        with without_deprecation_warnings():
            # PyTorch documents AOTInductor under this name, and has no other for it
            torch._inductor.aoti_compile_and_package(
                program, package_path=buffer, inductor_configs=options
            )
    except RuntimeError as error:  # the compiler's own error is wrapped in others
        if "InvalidCxxCompiler" not in str(error):
            raise
        raise FileNotFoundError("aot needs a C++ compiler, such as g++; none was found") from error
    path.write_bytes(buffer.getbuffer())


def open_aot(path: Path) -> Run:
    with without_deprecation_warnings():
        module = torch._inductor.aoti_load_package(str(path))
    return runs(module)


def runs(module: Callable[[Tensor], Any]) -> Run:
    @torch.no_grad()
    def run(images: Tensor) -> list[Tensor]:
        return list(module(images.contiguous()))  # compiled code assumes contiguous images

    return run


FORMATS = {
    "onnx": Format(".onnx", write_onnx, open_onnx),
    "torch-export": Format(".pt2", write_torch_export, open_torch_export),
    "aot": Format(".pt2", write_aot, open_aot),
}


@contextmanager
def without_deprecation_warnings() -> Iterator[None]:
    """PyTorch's exporters call functions that PyTorch has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
        yield
