"""
Fetches an open data set from its public source, at one commit, and converts it to the rows of docs/results.md.

    python examples/data/fetch.py ratings_webnlg2020 pairs_hh --out data

Every file that is read, and the rows that come out, are held against checksums of sources.json; splits/ names the
rows of each split. Nothing of the data is part of this repository: read the licence that is printed. `--mirror FOLDER`
reads files of a clone (FOLDER/owner+name, a work tree at the commit) instead of the network.
"""

import argparse
import gzip
import hashlib
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import converters

HERE = Path(__file__).parent
SOURCES: dict[str, dict[str, Any]] = json.loads((HERE / "sources.json").read_text(encoding="utf-8"))


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*SOURCES, "all"], metavar="NAME", help=", ".join(SOURCES))
    parser.add_argument("--out", type=Path, default=Path("data"), help="The folder to write to.")
    parser.add_argument("--mirror", type=Path, help="A folder of clones to read instead of the network.")
    args = parser.parse_args(argv)
    for name in SOURCES if "all" in args.names else args.names:
        try:
            rows = convert(name, args.mirror)
        except (OSError, ValueError) as error:
            sys.exit(f"{name}: {error}")
        path = write(rows, args.out / f"{name}.jsonl.gz")
        print(f"{path}: {len(rows)} rows of {SOURCES[name]['repository']}. Licence: {SOURCES[name]['licence']}")


def convert(name: str, mirror: Path | None = None) -> list[dict[str, Any]]:
    """
    The rows of a data set with their `split` and `source`.

    Raises:
        ValueError: a file of the source, or what came of it, is not what it was.
    """
    source = SOURCES[name]
    splits = json.loads((HERE / "splits" / f"{name}.json").read_text(encoding="utf-8"))
    split_of = {row: split for split, rows in splits.items() for row in rows}
    converter = getattr(converters, source["converter"])
    converted = converter(lambda path: read_file(source, path, mirror))
    rows = [{**row, "split": split_of[row["id"]]} for row in converted if row["id"] in split_of]
    if digest(rows) != source["sha256"]:
        raise ValueError(
            f"{len(rows)} of {source['rows']} rows came out, with another checksum than sources.json says."
        )
    return [{**row, "source": f"{source['repository']}@{source['commit']}"} for row in rows]


def read_file(source: dict[str, Any], path: str, mirror: Path | None) -> bytes:
    """
    A file of the source's repository at its commit.

    Raises:
        ValueError: its checksum is another one.
    """
    if mirror is not None:
        content = (mirror / source["repository"].replace("/", "+") / path).read_bytes()
    else:
        address = f"https://raw.githubusercontent.com/{source['repository']}/{source['commit']}/"
        with urllib.request.urlopen(address + urllib.parse.quote(path), timeout=60) as answer:
            content = answer.read()
    if hashlib.sha256(content).hexdigest() != source["files"][path]:
        raise ValueError(f"{path} has another checksum than sources.json says.")
    return content


def digest(rows: list[dict[str, Any]]) -> str:
    """SHA-256 of the rows as JSON lines with sorted keys."""
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))  # equal bytes for equal rows
    return path


if __name__ == "__main__":
    main()
