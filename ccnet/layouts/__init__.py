"""From a folder to pairs of image and label files: layouts, suffix rules, lists, splits."""
