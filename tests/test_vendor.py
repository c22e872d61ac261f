import gzip
import hashlib
import json
from pathlib import Path

import pytest

import stockpot

PLACES = sorted(Path(stockpot.__file__).parent.rglob("vendor/manifest.json"))


@pytest.mark.parametrize("manifest", PLACES, ids=lambda path: path.parent.parent.name)
def test_third_party_scripts_are_as_they_were_published(manifest):
    """Bytes, version and licence file of each; nothing is there that the manifest does not name.

    What we keep compressed has the hash of what was published too.
    """
    entries = json.loads(manifest.read_text())
    for name, entry in entries.items():
        kept = (manifest.parent / entry["file"]).read_bytes()
        assert hashlib.sha256(kept).hexdigest() == entry["sha256"]
        assert entry["version"] and entry["licence"]
        if entry["file"].endswith(".gz"):
            assert hashlib.sha256(gzip.decompress(kept)).hexdigest() == entry["published_sha256"]
        assert (manifest.parent / f"LICENSE.{entry.get('licence_of', name)}").is_file()
    there = {path.name for path in manifest.parent.iterdir() if not path.name.startswith("LICENSE.")}
    assert there == {"manifest.json"} | {entry["file"] for entry in entries.values()}
