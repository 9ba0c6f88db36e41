"""The parts of the loopback hub server; `tests/hub_server.py` is what tests import."""
