"""Provision attention-FFN disaggregated (AFD) LLM decoding."""

__version__ = "0.1.0"
