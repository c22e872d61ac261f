"""The figures of `compare.py` as a table in Markdown.

python benchmarks/rivals/table.py benchmarks/rivals/figures.json
"""

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any


def lines(figures: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: a row a way that was measured; growth and the recorded run are not in it."""
    yield "| | median | lowest to highest, n | times as fast | share of the peak | memory, MB |"
    yield "|---|---|---|---|---|---|"
    rows = [row for task in figures.values() for row in task["rows"] if "median" in row]
    for figure, ways in groupby(rows, key=lambda row: row["figure"]):
        first, *more = ways
        yield f"| **{figure}**, {_unit(first['unit'])} | | | | | |"
        for row in (first, *more):
            times = next((value for name, value in row.items() if name.startswith("times as fast")), None)
            share = row.get("share of peak")
            cells = (
                row["way"],
                _short(row["median"]),
                f"{_short(row['low'])} to {_short(row['high'])}, {row['n']}",
                f"{_short(times)}" if times else "",
                f"{share:.0%}" if share else "",
                str(row.get("megabytes", "")),
            )
            yield f"| {' | '.join(cells)} |"


def _unit(unit: str) -> str:
    return {"rate": "photos a second", "update seconds": "seconds", "seconds a map": "seconds"}.get(
        unit, unit
    )


def _short(value: float) -> str:
    """Return three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


if __name__ == "__main__":
    print("\n".join(lines(json.loads(Path(sys.argv[1]).read_text()))))
