"""`python -m stockpot` is `stockpot`."""

from stockpot.cli import main

main()
