"""A manifest says the same in each of its formats, and what is wrong is named with its line."""

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openreel.pipeline.clip import TimedText
from openreel.pipeline.errors import InputError
from openreel.pipeline.listing import MISSING, list_sources
from openreel.pipeline.manifest import is_manifest, read_manifest

ROWS = [
    {"File": "a.mp4", "caption": 'one, and\n"two"', "License": "CC0", "Source Repo": "here"},
    {"File": "in/b.webm", "short": "tiny", "start_s": 1.5, "end_s": 3.0, "width": 640},
    {"File": "a.mp4", "dense": "much\u2028more", "License": "CC-BY", "Source Repo": "here"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """The rows in the format of the path's suffix, with every column in every row."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    full = [{key: row.get(key) for key in columns} for row in rows]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(full)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in full) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(full), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "in/b.webm", "odd.dat"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def manifest(request: pytest.FixtureRequest, folder: Path) -> Path:
    return write(folder / f"list.{request.param}", ROWS)


def test_each_format_gives_the_same_sources(manifest: Path, folder: Path) -> None:
    a, b = list_sources([manifest]).sources
    assert (a.uri, b.uri) == (str(folder / "a.mp4"), str(folder / "in" / "b.webm"))
    assert a.texts == (
        TimedText(kind="original", text='one, and\n"two"'),
        TimedText(kind="dense", text="much\u2028more"),
    )
    assert (a.licence, a.origin, a.num_bytes) == ("CC0; CC-BY", "here", 5)
    assert b.texts == (TimedText(kind="short", text="tiny", start_s=1.5, end_s=3.0),)
    assert (b.licence, b.origin, b.status) == ("", "", "ok")


@pytest.mark.parametrize("location", ["file", "uri", "path", "video", "IMAGE"])
@pytest.mark.parametrize("text", ["caption", "TEXT", "original"])
def test_every_name_of_a_column_is_known(folder: Path, location: str, text: str) -> None:
    row = {location: "a.mp4", text: "words", "license": "CC0", "source": "there"}
    (source,) = list_sources([write(folder / "list.csv", [row])]).sources
    assert source.texts == (TimedText(kind="original", text="words"),)
    assert (source.licence, source.origin) == ("CC0", "there")


def test_locations_are_beside_the_manifest_absolute_or_uris(folder: Path) -> None:
    odd = folder / "in" / "50% of #1?.mp4"
    odd.write_bytes(b"odd")
    named = [
        "../in/b.webm",
        str(folder / "a.mp4"),
        odd.name,
        f"file://{folder}/in/50%25 of %231%3F.mp4",
    ]
    path = write(folder / "in" / "list.jsonl", [{"file": name, "text": name} for name in named])
    sources = {source.uri: source for source in list_sources([path]).sources}
    assert set(sources) == {str(folder / "in" / "b.webm"), str(folder / "a.mp4"), str(odd)}
    assert [text.text for text in sources[str(odd)].texts] == named[2:]


def test_two_columns_of_locations_may_fill_each_other_and_not_differ(folder: Path) -> None:
    rows: list[dict[str, object]] = [{"video": "a.mp4"}, {"image": "odd.dat"}]
    assert len(list_sources([write(folder / "list.csv", rows)]).sources) == 2
    rows = [{"video": "a.mp4", "image": "odd.dat"}]
    with pytest.raises(
        InputError, match=r"line 2: got 'a.mp4 and odd.dat'; accepted: one location"
    ):
        list_sources([write(folder / "list.csv", rows)])


def test_what_is_missing_is_a_rejected_row_and_any_name_is_listed(folder: Path) -> None:
    rows: list[dict[str, object]] = [
        {"file": "gone.mp4", "text": "kept"},
        {"file": "odd.dat"},
        {"file": "in"},
    ]
    sources = {Path(s.uri).name: s for s in list_sources([write(folder / "l.csv", rows)]).sources}
    gone = sources["gone.mp4"]
    assert (gone.status, gone.stage, gone.reason) == ("rejected", "sources", MISSING)
    assert (gone.video_id, gone.num_bytes, gone.texts[0].text) == ("", 0, "kept")
    assert (sources["odd.dat"].status, sources["odd.dat"].num_bytes) == ("ok", 7)
    assert sources["in"].status == "rejected"
    assert "folder" in sources["in"].reason
    (folder / "gone.mp4").write_bytes(b"here")
    again = {Path(s.uri).name: s for s in list_sources([folder / "l.csv"]).sources}
    assert again["gone.mp4"].status == "ok"
    assert again["gone.mp4"].key != gone.key


def test_a_file_of_a_folder_and_of_a_manifest_is_one_source(folder: Path) -> None:
    (folder / "captions.jsonl").write_text('{"file": "a.mp4", "kind": "short", "text": "beside"}')
    listing = list_sources([folder, write(folder / "list.csv", ROWS)])
    (a,) = [source for source in listing.sources if source.uri.endswith("a.mp4")]
    assert [text.kind for text in a.texts] == ["short", "original", "dense"]
    assert a.licence == "CC0; CC-BY"
    assert listing.others == {".dat": 1, ".csv": 1}


def test_what_is_said_of_a_file_is_part_of_its_key(folder: Path) -> None:
    row: dict[str, object] = {"file": "a.mp4"}
    said: list[dict[str, object]] = [
        {},
        {"text": "x"},
        {"short": "x"},
        {"licence": "x"},
        {"origin": "x"},
    ]
    keys = [list_sources([write(folder / "l.csv", [row | more])]).sources[0].key for more in said]
    assert len(set(keys)) == len(said)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a.csv, line 1: got 'no columns'; accepted: a column file, uri"),
        ("a.csv", "width,text\n1,x\n", r"a.csv, line 1: got 'width, text'; accepted: a column"),
        ("a.csv", "file,text\na.mp4,x\na.mp4\n", r"a.csv, line 3: got '1 cells'; accepted: 2"),
        ("a.csv", "file,text\na.mp4,x,y\n", r"a.csv, line 2: got '3 cells'; accepted: 2"),
        ("a.csv", 'file,text\n"a.mp4"x,y\n', r"a.csv, line 2: got .* expected after"),
        ("a.csv", 'file,text\na.mp4,"y\n', r"a.csv, line 2: got .*; accepted: CSV"),
        ("a.csv", "file,text\n,x\n", r"a.csv, line 2: got 'no location'; accepted: one location"),
        (
            "a.csv",
            "file,start_s,text\na.mp4,soon,x\n",
            r"line 2, start_s: got 'soon'; accepted: sec",
        ),
        ("a.csv", "file,end_s,text\na.mp4,-1,x\n", r"line 2, end_s: got '-1'; accepted: seconds"),
        ("a.csv", "file,end_s,text\na.mp4,nan,x\n", r"line 2, end_s: got 'nan'; accepted: seconds"),
        ("a.csv", "file,start_s,end_s,text\na,2,1,x\n", r"line 2: got 'start_s 2, end_s 1'; acc"),
        (
            "a.csv",
            b"file,text\na.mp4,\xff\n",
            r"a.csv, line 2: got b'a.mp4,\\xff\\n'; accepted: text",
        ),
        ("a.csv", "file\nftp://x/a.mp4\n", r"line 2: got 'ftp://x/a.mp4'; accepted: a local path"),
        ("a.csv", "file\ns3://films/a#1.mp4\n", r"line 2: got .*; accepted: .*with # written as"),
        (
            "a.jsonl",
            '{"file": "a.mp4"}\n{\n',
            r"a.jsonl, line 2: got '{'; accepted: one JSON object",
        ),
        ("a.jsonl", "\n[1]\n", r"a.jsonl, line 2: got '\[1\]'; accepted: one JSON object a line"),
        ("a.jsonl", "null\n", r"a.jsonl, line 1: got 'null'; accepted: one JSON object a line"),
        ("a.jsonl", '{"text": "x"}', r"a.jsonl, line 1: got 'text'; accepted: a column file"),
        ("a.jsonl", '{"file": 7}', r"a.jsonl, line 1, location: got 7; accepted: a string"),
        (
            "a.jsonl",
            '{"file": "a", "text": ["x"]}',
            r"line 1, original: got \['x'\]; accepted: a str",
        ),
        (
            "a.jsonl",
            '{"file": "a", "text": "\\ud800"}',
            r"line 1, original: got .*; accepted: char",
        ),
        ("a.jsonl", '{"file": "a\\u0000"}', r"line 1: got 'a\\x00'; accepted: a location without"),
        ("a.jsonl", '{"file": "a", "text": "x", "end_s": true}', r"line 1, end_s: got True; acc"),
        ("a.jsonl", '{"file": "a", "licence": 1}', r"line 1, licence: got 1; accepted: a string"),
        ("a.parquet", "no parquet", r"a.parquet, row 1: got .*; accepted: Parquet"),
        ("captions.jsonl", '{"file": "a.mp4"}', r"accepted: the folder that it lies in"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    folder: Path, name: str, content: str | bytes, message: str
) -> None:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        list_sources([path])
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_columns_and_types_of_parquet_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"l.parquet: got 'width'; accepted: a column file"):
        list_sources([write(folder / "l.parquet", [{"width": 1}])])
    rows: list[dict[str, object]] = [{"file": "a.mp4", "text": None}, {"file": "a.mp4", "text": 3}]
    with pytest.raises(InputError, match=r"l.parquet, row 2, original: got 3; accepted: a string"):
        list_sources([write(folder / "l.parquet", rows)])


def test_a_bom_windows_lines_and_blank_lines_are_read(folder: Path) -> None:
    (folder / "l.CSV").write_bytes(b"\xef\xbb\xbffile,text\r\na.mp4,x\r\n\r\n")
    assert is_manifest("l.CSV")
    (entry,) = read_manifest(folder / "l.CSV", "l.CSV")
    assert (entry.location, entry.texts[0].text, entry.texts[0].end_s) == ("a.mp4", "x", math.inf)


def test_the_manifest_of_the_test_media_is_read_as_it_is(media: Path) -> None:
    with (media / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listing = list_sources([media / "MANIFEST.csv"])
    by_name = {source.uri: source for source in listing.sources}
    assert len(by_name) == len(rows) > 20
    for row in rows:
        source = by_name[str((media / row["file"]).resolve())]
        assert (source.licence, source.origin) == (row["licence"], row["source repo"])
        assert [text.text for text in source.texts] == [row["caption"]]
        assert source.status == "ok"
