"""`urm cache`: what is kept between runs, where, and how to remove it. All of it can be computed again."""

import time

from urm_hf.cli.parser import Parser

EPILOG = """
The cache is $URM_CACHE; or urm-hf in $HF_HOME, where that is set; or ~/.cache/urm-hf. Hidden states of frozen
backbones lie there, a folder for each state of the weights and each precision, and what `urm score` has finished.
"""


def build_parser() -> Parser:
    parser = Parser(prog="urm cache", description=__doc__, epilog=EPILOG)
    parser.add_argument("--clean", action="store_true", help="Remove what is listed.")
    parser.add_argument(
        "--older-than",
        type=float,
        default=0.0,
        metavar="DAYS",
        help="List and remove only what was not used for so many days.",
    )
    return parser


def main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    if args.older_than < 0:
        raise ValueError(f"--older-than must not be negative, got {args.older_than:g}.")
    from urm_hf.data.cache_folder import DAY, default_cache_dir, list_cache, remove_entries

    root, now = default_cache_dir(), time.time()
    entries = list_cache(root)
    found = [entry for entry in entries if now - entry.used >= args.older_than * DAY]
    if not found:
        kept = f"{_write_size(sum(entry.size for entry in entries))} in {root} were used"
        print(f"{kept} in the last {args.older_than:g} days: nothing is older." if entries else f"{root} is empty.")
        return 0
    for entry in found:
        name = entry.path.relative_to(root)
        print(f"{_write_size(entry.size):>10}  {(now - entry.used) / DAY:5.1f} days  {entry.kind:<13}  {name}")
    total = _write_size(sum(entry.size for entry in found))
    if not args.clean:
        older = f" --older-than {args.older_than:g}" if args.older_than else ""
        print(f"{total:>10}  in all, of {root}; `urm cache --clean{older}` removes it")
        return 0
    remove_entries(found)
    print(f"{total:>10}  removed from {root}")
    return 0


def _write_size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
