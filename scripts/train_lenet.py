#!/usr/bin/env python3
"""Train LeNet (sigmoid, Glorot, Adam) on MNIST where it is found, else on the 8x8 digits enlarged to 32x32."""

import sys

from xpnet.cli.train import script

if __name__ == "__main__":
    sys.exit(script(__doc__, model="lenet", pixels="-1..1", epochs=15, batch_size=64))
