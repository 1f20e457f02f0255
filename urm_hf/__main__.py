"""`python -m urm_hf` is the command `urm`."""

from urm_hf.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
