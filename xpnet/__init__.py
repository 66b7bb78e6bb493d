"""xpnet: convolutional networks with hand-written gradients on NumPy, CuPy, torch or any array API library."""

__version__ = "0.1.0"
