"""What do the files that start a plan ask for: devices of a host, ports, lengths?"""

from __future__ import annotations

from afdplan.model.parameter import count

__all__ = ["DEPLOY", "MAX_MODEL_LEN", "NODE_DEVICES", "PORT"]

NODE_DEVICES = count("node_devices", "Devices of one host.", default=8, maximum=1024)
MAX_MODEL_LEN = count(
    "max_model_len", "Longest prompt and output.", maximum=100_000_000, metavar="N"
)
PORT = count("port", "First rendezvous port.", default=6239, minimum=1024, maximum=65535)
DEPLOY = (NODE_DEVICES, MAX_MODEL_LEN, PORT)
