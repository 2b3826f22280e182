"""A trained network as one file that runs without ccnet: ONNX, torch.export or AOTInductor."""
