"""What a report says of how everything was made: commands, times, machine and versions."""

from typing import Any

from stockpot import project as disk
from stockpot.reporting.blocks import Blocks, code, heading, table, text
from stockpot.reporting.calls import training_call
from stockpot.reporting.material import Material
from stockpot.reporting.texts import Texts


def tell_making(material: Material, say: Texts) -> Blocks:
    """Return the commands, versions and times."""
    run, split = material.run, material.split
    calls = [training_call(one, material.before(one), material.name) for one in material.runs]
    stages = sorted({stage for one in material.runs for stage in one.seconds})
    times = [
        (one.name, *(say.number(one.seconds.get(stage, 0.0), ".1f") for stage in stages))
        for one in material.runs
    ]
    environment = _flat(disk.read_json(run.folder / "environment.json") or {})
    return [
        text(say("making.split", fingerprint=split.fingerprint, seed=str(split.seed), run=run.name)),
        heading(say("making.commands")),
        code(f"stockpot study {material.shell_name}\nstockpot report {material.shell_name}"),
        text(say("making.again")),
        code("\n".join(calls)),
        heading(say("making.times")),
        table([say("comparison.run"), *map(say.stage, stages)], times),
        heading(say("making.environment")),
        table([], [(name, str(value)) for name, value in environment], words=(1,)),
    ]


def _flat(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a nested mapping as rows."""
    rows: list[tuple[str, Any]] = []
    for name, content in value.items():
        rows += _flat(content) if isinstance(content, dict) else [(name, content)]
    return rows
