"""One reader over one file; prints what it took. python data_readers.py json|pandas FILE"""

import json
import resource
import sys
import time


def with_json(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        if path.endswith(".json"):
            return len(json.load(file))
        return sum(1 for _ in map(json.loads, file))


def with_pandas(path: str) -> int:
    import pandas

    if path.endswith(".json"):
        return len(pandas.read_json(path))
    return sum(map(len, pandas.read_json(path, lines=True, chunksize=10_000)))


def main() -> None:
    reader, path = sys.argv[1:]
    read = {"json": with_json, "pandas": with_pandas}[reader]
    if reader == "pandas":
        import pandas  # noqa: F401  (its import is not counted)
    cpu, start = time.process_time(), time.perf_counter()
    rows = read(path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu_seconds": time.process_time() - cpu, "peak_mb": peak}))


main()
