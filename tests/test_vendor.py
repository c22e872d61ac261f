import hashlib
import json
from pathlib import Path

import pytest

import stockpot

PLACES = sorted(Path(stockpot.__file__).parent.rglob("vendor/manifest.json"))


@pytest.mark.parametrize("manifest", PLACES, ids=lambda path: path.parent.parent.name)
def test_third_party_scripts_are_as_they_were_published(manifest):
    """Bytes, version and licence file of each; nothing is there that the manifest does not name."""
    entries = json.loads(manifest.read_text())
    for entry in entries.values():
        assert hashlib.sha256((manifest.parent / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert entry["version"] and entry["licence"]
    scripts = {path.name for path in manifest.parent.glob("*.js")}
    assert scripts == {entry["file"] for entry in entries.values()}
    licences = {path.suffix[1:] for path in manifest.parent.glob("LICENSE.*")}
    assert entries.keys() <= licences
