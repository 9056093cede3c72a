"""`python -m reprise`."""

from reprise.cli import main

if __name__ == "__main__":
    main()
