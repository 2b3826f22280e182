"""Values that flags choose from, where the module they belong to is slow to import."""

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Format = Literal["onnx", "torch-export", "aot"]
FilePrecision = Literal["float32", "float16", "int8"]
