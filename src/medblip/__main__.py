"""`python -m medblip` is `medblip`."""

from medblip.cli import main

if __name__ == "__main__":
    main()
