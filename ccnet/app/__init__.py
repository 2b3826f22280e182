"""A page in a browser that shows what a trained network sees: `ccnet app`."""
