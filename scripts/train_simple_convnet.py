#!/usr/bin/env python3
"""Train the book's SimpleConvNet (chapter 7) on MNIST where it is found, else on digits enlarged to 16x16."""

import sys

from xpnet.cli.train import script

if __name__ == "__main__":
    sys.exit(script(__doc__, model="simple_convnet", data="auto:upscale=2", epochs=20, batch_size=100))
