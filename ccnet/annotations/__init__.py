"""Labels as labeling tools export them, read as they are.

Each reader turns a source into classes and, for each split, images with what draws their label map.
"""
