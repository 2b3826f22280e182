"""Pictures and reports that show people what a model does."""
