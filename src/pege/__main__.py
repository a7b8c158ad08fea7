"""``python -m pege``."""

from pege.cli import main

if __name__ == "__main__":
    main()
