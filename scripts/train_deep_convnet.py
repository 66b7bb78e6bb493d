#!/usr/bin/env python3
"""Train the book's DeepConvNet (chapter 8) on MNIST where it is found, else on digits enlarged to 16x16."""

import sys

from xpnet.cli.train import script

if __name__ == "__main__":
    sys.exit(
        script(
            __doc__, model="deep_convnet", data="auto:upscale=2", epochs=14, batch_size=100, lr=0.002, schedule="cosine"
        )
    )
