"""From image files to files of labels: which there are, which are kept, and what is written."""
