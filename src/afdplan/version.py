"""Which afdplan wrote this?"""

__all__ = ["__version__"]

__version__ = "0.1.0"
