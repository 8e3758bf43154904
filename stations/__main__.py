"""`python -m stations` is the `dipper` command, without an installed script."""

from stations.cli import main

if __name__ == "__main__":
    main()
