#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the test suite, the benchmark and a short training with CuPy, in under ten minutes
# and without a network. Writes commit, GPU, driver, CUDA and CuPy versions, passes, skips and timings to a JSON file.
# See --help. PYTHON names the Python to use; exit codes: 0 all well, 1 something failed, 3 no usable GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" scripts/_gpu_run.py "$@"
