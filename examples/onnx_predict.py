"""The classes of a photograph, by a file of `ccnet export` alone, without ccnet and PyTorch.

pip install onnxruntime numpy pillow
python examples/onnx_predict.py model.onnx photo.jpg classes.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, photo: str, output: str) -> None:
    session = onnxruntime.InferenceSession(model)
    facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}

    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    images = np.asarray(image).transpose(2, 0, 1)[None]  # (1, 3, H, W), 0 to 255
    if facts["normalized"]:  # else the file does it
        mean, std = (np.array(facts[x], np.float32).reshape(3, 1, 1) for x in ("mean", "std"))
        images = (images - mean) / std
    (logits,) = session.run(["logits"], {"images": images})  # (1, classes, H, W)

    labels = logits[0].argmax(0).astype(np.uint8)
    picture = Image.fromarray(labels)
    if facts["palette"] is not None:
        picture.putpalette(np.array(facts["palette"], np.uint8).tobytes())
    picture.save(output)
    for index, count in enumerate(np.bincount(labels.ravel(), minlength=len(facts["classes"]))):
        print(f"{count / labels.size:6.1%}  {facts['classes'][index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
