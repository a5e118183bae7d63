"""edgeopt: optimize a trained model for edge hardware, deploy it, and measure it there."""

__version__ = "0.1.0"
__all__ = ["__version__"]
