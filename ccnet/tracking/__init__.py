"""What a run shows and logs: a bar, log.csv, TensorBoard, other trackers, and pictures."""
