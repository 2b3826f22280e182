"""Formats and precisions of an exported file by name. Loads no torch, so that --help is fast."""

from typing import Literal

FormatName = Literal["onnx", "torch-export", "aot"]
FilePrecision = Literal["float32", "float16", "int8"]
