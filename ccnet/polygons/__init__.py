"""Regions of label maps as polygons, and the files of labeling tools that hold them."""
