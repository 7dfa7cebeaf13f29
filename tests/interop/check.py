#!/usr/bin/env python3
"""Holds PyTorch and onnxruntime against what `coordinator evaluate --predictions` says of the same test images.

Runs the code of docs/models.md as it stands there, in the current folder, which has mnist.safetensors, mnist.onnx and
all.csv. Writes images.f32 and logits.f32 for check.cjs, and back.safetensors as PyTorch saves the network.

usage: check.py DOCS/models.md MNIST_FOLDER
"""
import csv
import gzip
import pathlib
import re
import sys

import numpy as np
import onnx
import torch
from safetensors.torch import save_file

COUNT = 1000
TOLERANCE = 1e-4


def block(text, heading):
    """The first Python block below a heading."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


def test_images(folder):
    """[COUNT, 28, 28] bytes."""
    plain = pathlib.Path(folder, "t10k-images-idx3-ubyte")
    packed = plain.with_name(plain.name + ".gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)[:COUNT]


def agree(name, logits, expected):
    assert logits.shape == expected.shape and logits.dtype == np.float32, (name, logits.shape, logits.dtype)
    worst = np.abs(logits - expected).max()
    assert worst < TOLERANCE, f"{name}: logits differ by {worst}"
    assert (logits.argmax(1) == expected.argmax(1)).all(), f"{name}: another class"
    return f"{name} {worst:.1e}"


def main(docs, folder):
    text = pathlib.Path(docs).read_text()
    with open("all.csv", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(COUNT))]
    expected = np.array([[row[f"logit{k}"] for k in range(10)] for row in rows], np.float32)
    images = (test_images(folder)[:, None] / np.float32(255)).astype(np.float32)
    assert images.shape == (COUNT, 1, 28, 28) and len(expected) == COUNT
    images.tofile("images.f32")
    expected.tofile("logits.f32")

    names = {}
    exec(block(text, "PyTorch"), names)
    net = names["net"]
    with torch.no_grad():
        found = [agree("PyTorch", net(torch.from_numpy(images)).numpy(), expected)]
    save_file(net.state_dict(), "back.safetensors")

    onnx.checker.check_model("mnist.onnx", full_check=True)
    for size in (COUNT, 7, 1):
        names = {"images": images[:size]}
        exec(block(text, "ONNX"), names)
        agreed = agree("onnxruntime", names["logits"], expected[:size])
        probabilities = names["probabilities"]
        exponentials = np.exp(expected[:size] - expected[:size].max(1, keepdims=True))
        assert np.abs(probabilities - exponentials / exponentials.sum(1, keepdims=True)).max() < TOLERANCE
        if size == COUNT:
            found.append(agreed)
    print(", ".join(found))


main(*sys.argv[1:])
