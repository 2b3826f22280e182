"""The folder of a run: its saves, what they must hold, and what data they were made from."""
