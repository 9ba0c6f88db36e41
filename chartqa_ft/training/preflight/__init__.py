"""The preflight: what a training would do, shown before it begins. It changes nothing."""
