"""Attacks: what strangers write into data sets, checkpoints, answers of the Hub and shared folders does no harm."""
