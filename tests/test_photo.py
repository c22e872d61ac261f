from pathlib import Path

from stockpot.photos.photo import Refused, describe_refused


def test_one_refused_file_is_named_before_its_reason():
    """As a sentence about that file."""
    assert describe_refused([Refused(Path("x/cat/a.jpg"), "is empty")]) == ["cat/a.jpg: is empty"]


def test_files_that_lack_the_same_are_one_line():
    """A folder of 300 HEIC photos is one line with its count, not 300."""
    files = [Refused(Path(f"x/cat/{i}.heic"), "is a HEIC photo") for i in range(300)]
    (line,) = describe_refused(files)
    assert line.startswith("300 files, each is a HEIC photo: cat/0.heic, ")
    assert line.endswith("cat/9.heic and 290 more")
