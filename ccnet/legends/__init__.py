"""What the values in label files stand for, where nobody has said it."""
