"""`python -m diffkit`: the command line."""

from __future__ import annotations

from diffkit.cli.main import main

if __name__ == "__main__":
    main()
