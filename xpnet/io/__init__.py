"""Weights files: safetensors, from and to any backend; and the book's pickled ones, read without running them."""

from __future__ import annotations

from xpnet.io.book import import_book_weights, read_book_params
from xpnet.io.either import load_any
from xpnet.io.weights import load_weights, save_weights

__all__ = ["import_book_weights", "load_any", "load_weights", "read_book_params", "save_weights"]
