"""Pictures that show what a model does and how its training went."""
