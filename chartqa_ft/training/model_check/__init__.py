"""`check_model`: every promise of this library, measured on the model that is about to be trained."""
