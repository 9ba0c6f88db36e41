"""The model card: its facts, its metadata and its text."""
