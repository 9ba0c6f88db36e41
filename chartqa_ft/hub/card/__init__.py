"""The model card: the facts it states, its metadata, and its text."""
