"""The network: attention modules, head, CCNet, and how models are read and described."""
