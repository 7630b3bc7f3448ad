#!/usr/bin/env python3
"""bench/peers.py FOLDER SET [--metric cosine|l2] [--rounds N]: Kith's index beside the newest usearch, hnswlib and
faiss-cpu from PyPI, fetched by name into the build folder; what cannot be fetched is left out, and said.

One thread, k 10, M 16, efConstruction 200. CPU seconds, the best of N rounds; in each round every library answers all
queries at every effort. Kith's own line comes from build/bench/peers, started in each round."""
import argparse
import gzip
import math
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("KITH_BUILD", os.path.join(HERE, "..", "build"))
EFFORTS = [10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 200, 256, 400]
K, M, EF_CONSTRUCTION = 10, 16, 200

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"


def fetch(packages):
    folder = os.path.join(BUILD, "peers-venv")
    python = os.path.join(folder, "bin", "python3")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for package in packages:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", package], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            print("left out: %s (%s)" % (package, done.stderr.strip().split("\n")[-1][:100]))
    return python


def load(folder, name, part):
    import numpy
    with gzip.open(os.path.join(folder, "%s.%s.u8bin.gz" % (name, part))) as file:
        rows, dim = numpy.frombuffer(file.read(8), dtype="<u4")
        return numpy.frombuffer(file.read(), dtype="u1").reshape(rows, dim).astype("f4")


class Hnswlib:
    def __init__(self, base, metric):
        import hnswlib
        self.index = hnswlib.Index(space="l2" if metric == "l2" else "ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=M, ef_construction=EF_CONSTRUCTION)
        self.index.set_num_threads(1)
        self.index.add_items(base, num_threads=1)

    def search(self, queries, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k=K, num_threads=1)[0]


class Faiss:
    def __init__(self, base, metric):
        import faiss
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(base.shape[1], M)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(base)

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, K)[1]


class Usearch:
    dtype = "f32"

    def __init__(self, base, metric):
        import numpy
        from usearch.index import Index
        self.index = Index(ndim=base.shape[1], metric="l2sq" if metric == "l2" else "ip", dtype=self.dtype,
                           connectivity=M, expansion_add=EF_CONSTRUCTION)
        self.index.add(numpy.arange(len(base)), base, threads=1)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


class UsearchBf16(Usearch):
    dtype = "bf16"


def exact(base, queries, metric):
    """Of each query: how far its K-th nearest row is."""
    import numpy
    squares = (base.astype("f8") ** 2).sum(1)
    bounds = []
    for query in queries:
        dots = base @ query
        distances = squares - 2.0 * dots + float((query.astype("f8") ** 2).sum()) if metric == "l2" else 1.0 - dots
        bounds.append(numpy.partition(distances, K - 1)[K - 1])
    return numpy.array(bounds)


def recall(base, queries, metric, rows, bounds):
    import numpy
    rows = rows.astype("i8")
    picked = base[rows]
    if metric == "l2":
        distances = ((picked.astype("f8") - queries[:, None].astype("f8")) ** 2).sum(2)
        slack = 1e-6 * bounds + 0.5
    else:
        distances = 1.0 - numpy.einsum("qkd,qd->qk", picked, queries)
        slack = 1e-6
    return float((distances <= (bounds + slack)[:, None]).mean())


def kith(args):
    out = subprocess.run([os.path.join(BUILD, "bench", "peers"), args.folder, args.set, "metric=" + args.metric,
                          "others=none", "rounds=1"], stdout=subprocess.PIPE, text=True, check=True).stdout
    build = float(re.search(r"^kith +([0-9.]+)", out, re.M).group(1))
    return build, {int(ef): (float(r), float(rate)) for ef, r, rate in
                   re.findall(r"^ef +(\d+) +kith ([0-9.]+) +(\d+)", out, re.M)}


def rate_at(curve, wanted):
    before = None
    for ef in sorted(curve):
        here = curve[ef]
        if here[0] >= wanted:
            if before is None or here[0] == before[0]:
                return here[1]
            part = (wanted - before[0]) / (here[0] - before[0])
            return math.exp(math.log(before[1]) + part * (math.log(here[1]) - math.log(before[1])))
        before = here
    return float("nan")


def merge(best, curve):
    for ef, (r, rate) in curve.items():
        if ef not in best or rate > best[ef][1]:
            best[ef] = (r, rate)


def compare(args):
    base, queries = load(args.folder, args.set, "base"), load(args.folder, args.set, "query")
    if args.metric == "cosine":
        for rows in (base, queries):
            rows /= ((rows.astype("f8") ** 2).sum(1) ** 0.5)[:, None]
    bounds = exact(base, queries, args.metric)
    others = {}
    builds, curves = {}, {"kith": {}}
    for name, kind in (("hnswlib", Hnswlib), ("faiss flat", Faiss), ("usearch f32", Usearch),
                       ("usearch bf16", UsearchBf16)):
        start = time.process_time()
        try:
            others[name] = kind(base, args.metric)
        except ImportError as error:
            print("left out: %s (%s)" % (name, error))
            continue
        builds[name] = time.process_time() - start
        curves[name] = {}
    for _ in range(args.rounds):
        builds["kith"], curve = kith(args)
        merge(curves["kith"], curve)
        for name, index in others.items():
            for ef in EFFORTS:
                start = time.process_time()
                rows = index.search(queries, ef)
                rate = len(queries) / (time.process_time() - start)
                merge(curves[name], {ef: (recall(base, queries, args.metric, rows, bounds), rate)})
    one = curves.get("hnswlib", curves["kith"])
    print("%-14s %9s  %9s %6s  %9s %6s" % ("", "build s", "at 0.95", "ratio", "at 0.99", "ratio"))
    for name, curve in curves.items():
        print("%-14s %9.1f  %9.0f %6.2f  %9.0f %6.2f" % (name, builds[name], rate_at(curve, .95),
              rate_at(curve, .95) / rate_at(one, .95), rate_at(curve, .99), rate_at(curve, .99) / rate_at(one, .99)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("set")
    parser.add_argument("--metric", choices=("cosine", "l2"), default="cosine")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if "peers-venv" not in sys.prefix:
        python = fetch(["numpy", "hnswlib", "faiss-cpu", "usearch"])
        os.execv(python, [python, os.path.abspath(__file__)] + sys.argv[1:])
    compare(args)


if __name__ == "__main__":
    main()
