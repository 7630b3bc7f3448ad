#!/usr/bin/env python3
"""data/make_sample.py BASE.u8bin.gz QUERY.u8bin.gz: makes the sample files of this folder from the whole of MNIST.

The inputs hold MNIST's training and test images (Yann LeCun, Corinna Cortes, Christopher Burges) in the u8bin format:
two little-endian uint32, rows and columns, then rows of bytes. The sample is the first rows of each, and beside them the
exact answers: for each query the rows of the base with the largest cosine, from a scan of all of them. It is kept here
so that a reader can see how the sample was made; nobody needs to run it."""
import gzip
import os
import struct
import sys
from operator import mul

BASE_ROWS, QUERY_ROWS, NEIGHBOURS = 5000, 100, 100


def read(path, rows):
    data = gzip.open(path).read()
    total, columns = struct.unpack_from("<II", data)
    return [data[8 + i * columns:8 + (i + 1) * columns] for i in range(min(rows, total))], columns


def write(name, rows, columns, body):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    with open(path, "wb") as f:
        # No name and no time inside, so that the same input gives the same file.
        with gzip.GzipFile(filename="", mode="wb", fileobj=f, compresslevel=9, mtime=0) as z:
            z.write(struct.pack("<II", rows, columns) + body)


def main():
    base, columns = read(sys.argv[1], BASE_ROWS)
    queries, _ = read(sys.argv[2], QUERY_ROWS)
    norms = [sum(map(mul, v, v)) ** 0.5 for v in base]
    truth = b""
    for q in queries:
        cosine = [sum(map(mul, q, v)) / n for v, n in zip(base, norms)]
        best = sorted(range(len(base)), key=lambda i: (-cosine[i], i))[:NEIGHBOURS]
        truth += struct.pack("<%di" % NEIGHBOURS, *best)
    write("mnist5k.base.u8bin.gz", len(base), columns, b"".join(base))
    write("mnist5k.query.u8bin.gz", len(queries), columns, b"".join(queries))
    write("mnist5k.truth.i32bin.gz", len(queries), NEIGHBOURS, truth)


main()
