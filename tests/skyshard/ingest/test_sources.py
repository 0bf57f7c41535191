"""Files of elsewhere: a web server and an object store on the loopback, which fail, change and end too early."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote as escaped
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet
import pytest

from skyshard.errors import UserError
from skyshard.ingest import hats, sources
from tests.skyshard.conftest import Lab, Writer
from tests.skyshard.ingest.test_typed_files import hats_catalogue
from tests.support.sky import TABLES, Sky, spec


class Store:
    """What is served: path → bytes; `failures` answers of 503 or cut bodies come first."""

    def __init__(self, port: int) -> None:
        self.port, self.files = port, {}
        self.failures: list[str] = []
        self.asked: list[str] = []
        self.etag: str | None = "one"
        self.gives_parts = True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def s3(self, name: str) -> str:
        where = escaped(f"127.0.0.1:{self.port}")
        return f"s3://bucket/{name}?region=x&scheme=http&endpoint_override={where}"


class _Handler(BaseHTTPRequestHandler):
    store: ClassVar[Store]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_body: bool) -> None:
        store = self.store
        name = unquote(self.path.partition("?")[0]).removeprefix("/bucket/").removeprefix("/")
        store.asked.append(f"{self.command} {name}")
        failure = store.failures.pop(0) if with_body and store.failures else ""
        if failure == "503" or name not in store.files:
            self.send_response(503 if failure else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = store.files[name]
        wanted = self.headers.get("Range") if store.gives_parts else None
        first, last = 0, len(data) - 1
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first = int(start) if start else max(0, len(data) - int(end))
            last = min(int(end), len(data) - 1) if start else last
        part = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if store.etag is not None:
            self.send_header("Last-Modified", "Sun, 06 Nov 2022 08:49:37 GMT")
            self.send_header("ETag", f'"{store.etag}"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if with_body:
            self.wfile.write(part[: len(part) // 2] if failure == "cut" else part)
            if failure == "cut":
                self.close_connection = True


@pytest.fixture
def store() -> Iterator[Store]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made = _Handler.store = Store(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(sources, "PAUSE_S", 0.01)


def test_a_server_that_fails_for_a_moment(store: Store, tmp_path: Path) -> None:
    store.files["a.csv"] = b"x" * 300_000
    store.failures = ["503", "cut"]
    stamp = sources.stamp(store.url("a.csv"))
    assert stamp.size == 300_000
    sources.fetch(store.url("a.csv"), stamp, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == store.files["a.csv"]
    assert store.asked == ["HEAD a.csv", "GET a.csv", "GET a.csv", "GET a.csv"]
    store.failures = ["503"] * sources.ATTEMPTS
    with pytest.raises(UserError, match=r"a\.csv: 503 Service Unavailable"):
        sources.fetch(store.url("a.csv"), stamp, tmp_path / "a")


def test_what_is_not_there_is_asked_for_once(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: 404"):
        sources.stamp(store.url("none.csv"))
    assert store.asked == ["HEAD none.csv"]
    with pytest.raises(UserError, match=r"none\.csv.*: there is no such file"):
        sources.stamp(store.s3("none.csv"))
    with pytest.raises(UserError, match="No such file"):
        sources.stamp(str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="refused"):
        sources.stamp("http://127.0.0.1:1/a.csv")


def test_another_version_has_another_stamp(store: Store, tmp_path: Path) -> None:
    store.files["a.csv"] = b"12"
    first = sources.stamp(store.url("a.csv"))
    assert sources.stamp(store.url("a.csv")) == first
    store.etag = "two"
    assert sources.stamp(store.url("a.csv")) != first
    with pytest.raises(
        UserError, match=r"a\.csv: the file has changed: it is another version of the same size"
    ):
        sources.fetch(store.url("a.csv") + "?sign=1", first, tmp_path / "a")


def test_a_server_that_tells_no_version(store: Store) -> None:
    store.files["a.csv"] = b"12"
    store.etag = None
    with pytest.raises(UserError, match=r"a\.csv: the server says neither ETag nor Last-Modified"):
        sources.stamp(store.url("a.csv"))


@pytest.mark.parametrize(
    "url", ["http://[::1/a.csv", "http://h/a b.csv?sign=geheim", "http://h:x/a.csv?sign=geheim"]
)
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UserError, match="it is no URL that can be asked for") as caught:
        sources.stamp(url)
    assert "geheim" not in str(caught.value)


def test_what_is_no_web_server_is_told(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_garbage, args=(listener, sources.ATTEMPTS), daemon=True)
        thread.start()
        with pytest.raises(UserError, match=r"a\.csv: the server answers as no web server does"):
            sources.stamp(f"http://127.0.0.1:{listener.getsockname()[1]}/a.csv")
        thread.join()


def _garbage(listener: socket.socket, times: int) -> None:
    for _ in range(times):
        with listener.accept()[0] as asker:
            asker.recv(1 << 16)
            asker.sendall(b"this is no HTTP\r\n\r\n")


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_no_secret_is_taken_or_shown(store: Store, scheme: str) -> None:
    with pytest.raises(UserError, match="must have no account and no password") as caught:
        sources.stamp(f"{scheme}://me:geheim@host/a.csv")
    assert "geheim" not in str(caught.value)
    with pytest.raises(UserError) as caught:
        sources.stamp(f"{store.url('a.csv')}?signature=geheim")
    assert "geheim" not in str(caught.value)


def test_an_object_store(store: Store, tmp_path: Path) -> None:
    store.files["deep/b.csv"] = bytes(range(256)) * 9000
    stamp = sources.stamp(store.s3("deep/b.csv"))
    sources.fetch(store.s3("deep/b.csv"), stamp, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == store.files["deep/b.csv"]
    store.files["deep/b.csv"] += b"more"
    with pytest.raises(UserError, match="the file has changed: it had 2304000 bytes, and has 2304004"):
        sources.fetch(store.s3("deep/b.csv"), stamp, tmp_path / "b")


def test_a_catalogue_of_elsewhere_is_published_and_grows(lab: Lab, write: Writer, store: Store) -> None:
    first, second = Sky(0, 30), Sky(30, 12)
    store.files |= {f"1/{name}": text.encode() for name, text in first.files().items()}
    store.files |= {f"2/{name}": text.encode() for name, text in second.files().items()}
    remote = TABLES.replace("files: [", "files: [http://HOST/1/").replace("HOST", f"127.0.0.1:{store.port}")
    lab.publish(write("elsewhere", remote))
    parts = spec("Star").replace("star.csv", f'"{store.s3("2/star.csv")}"')
    visits = spec("Visit").replace("visit.csv", store.url("2/visit.csv"))
    store.failures = ["503"]
    lab.publish(write("elsewhere", f"{parts}\n{visits}"), "--append")
    assert lab.ask("SELECT COUNT(*) FROM Star s JOIN Visit v USING (id)", "elsewhere") == [("84",)]
    store.files["2/ref.csv"] = b"refId,ra,decl\n900,1,dim\n"
    signed = write("elsewhere", spec("Ref").replace("ref.csv", f"'{store.url('2/ref.csv')}?sign=geheim'"))
    said = lab.ingest(signed, "--append").output + lab.command("ingest", "status", "elsewhere").output
    said += str(lab.home("SELECT reason FROM skyshard_meta.ingest_files WHERE state = 'failed'"))
    assert said.count("2/ref.csv:2: table 'Ref': column 'decl'") >= 2
    assert "geheim" not in said
    done = lab.ingest(write("elsewhere", spec("Ref").replace("ref.csv", store.url("3/ref.csv"))), "--append")
    assert done.exit_code == 1
    assert f"{store.url('3/ref.csv')}: 404" in done.output
    lab.drop("elsewhere")
    assert lab.traces("elsewhere") == []


def test_a_file_url_is_a_path(lab: Lab, write: Writer) -> None:
    catalog = write("byurl", spec("Star"), Sky(0, 5).files())
    catalog.write_text(catalog.read_text().replace("star.csv", f"file://{write.directory}/star.csv"))
    lab.publish(catalog)
    assert lab.ask("SELECT COUNT(*) FROM byurl.Star") == [("5",)]
    with pytest.raises(UserError, match="names no host"):
        sources.local("file://elsewhere/star.csv")


def served(store: Store, directory: Path, name: str) -> None:
    """Put the files of a directory into the store."""
    files = (path for path in directory.rglob("*") if path.is_file())
    store.files |= {f"{name}/{path.relative_to(directory)}": path.read_bytes() for path in files}


def list_pixels(root: Path) -> None:
    """Tell the files of a HATS catalogue as `partition_info.csv` does."""
    root.joinpath("partition_info.csv").write_text("Norder,Npix\n" + "".join(f"1,{n}\n" for n in range(4)))


def list_files(root: Path) -> None:
    """Tell the files of a HATS catalogue as `dataset/_metadata` does."""
    found = []
    for path in sorted(root.rglob("Npix=*.parquet")):
        found.append(pyarrow.parquet.read_metadata(path))
        found[-1].set_file_path(str(path.relative_to(root / "dataset")))
    pyarrow.parquet.write_metadata(
        pyarrow.parquet.read_schema(path), root / "dataset" / "_metadata", metadata_collector=found
    )


@pytest.mark.parametrize("where", ["http", "s3"])
@pytest.mark.parametrize("listed", [list_pixels, list_files])
def test_a_hats_catalogue_of_elsewhere_is_its_files(
    store: Store, tmp_path: Path, where: str, listed: Callable[[Path], None]
) -> None:
    listed(hats_catalogue(tmp_path))
    served(store, tmp_path, "sky")
    url = store.url("sky/?sign=geheim") if where == "http" else store.s3("sky/")
    head, _, options = url.partition("?")
    store.failures = ["503"]
    assert hats.remote_files(url) == [
        f"{head}dataset/Norder=1/Dir=0/Npix={number}.parquet?{options}" for number in range(4)
    ]
    store.files["sky/hats.properties"] = b"hats_nrows=99\n"
    with pytest.raises(ValueError, match="its files have 100 rows, its properties say 99"):
        hats.remote_files(url)


def test_what_is_wrong_with_a_hats_catalogue_of_elsewhere(store: Store, tmp_path: Path) -> None:
    url = store.url("sky/")
    with pytest.raises(ValueError, match="no HATS catalogue"):
        hats.remote_files(url)
    hats_catalogue(tmp_path)
    served(store, tmp_path, "sky")
    with pytest.raises(ValueError, match=r"neither dataset/_metadata nor partition_info\.csv"):
        hats.remote_files(url)
    store.files["sky/partition_info.csv"] = b"Norder,Pixel\n1,0\n"
    with pytest.raises(ValueError, match="no numbers in columns Norder and Npix"):
        hats.remote_files(url)
    store.files["sky/partition_info.csv"] = b"Norder,Npix\n1,0\n1,10007\n"
    with pytest.raises(UserError, match=r"dataset/Norder=1/Dir=10000/Npix=10007\.parquet: 404"):
        hats.remote_files(url)
    store.files["sky/partition_info.csv"] = b"Norder,Npix\n1,0\n"
    store.gives_parts = False
    with pytest.raises(UserError, match="the server gives no parts of files"):
        hats.remote_files(url)
    store.gives_parts = True
    store.files["sky/dataset/Norder=1/Dir=0/Npix=0.parquet"] = b"half of a file"
    with pytest.raises(ValueError, match=r"Npix=0\.parquet: .*Parquet"):
        hats.remote_files(url)
    store.files["sky/hats.properties"] += b"hats_npix_suffix=/\n"
    with pytest.raises(ValueError, match="its pixels are directories, which nobody lists"):
        hats.remote_files(url)


def test_only_data_files_of_the_catalogue_are_asked_for(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    table = pa.table({"id": [1]})
    pyarrow.parquet.write_table(table, path)
    found = pyarrow.parquet.read_metadata(path)
    found.set_file_path("../../secret.parquet")
    pyarrow.parquet.write_metadata(table.schema, tmp_path / "listed", metadata_collector=[found])
    store.files["sky/properties"] = b""
    store.files["sky/dataset/_metadata"] = (tmp_path / "listed").read_bytes()
    with pytest.raises(ValueError, match=r"its dataset/_metadata names a file '\.\./\.\./secret\.parquet'"):
        hats.remote_files(store.url("sky/"))


def test_a_footer_may_be_long(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pyarrow.parquet.write_table(pa.table({f"column {n}": [1, 2] for n in range(2000)}), path)
    store.files["sky/hats.properties"] = b"hats_nrows=2\n"
    store.files["sky/partition_info.csv"] = b"Norder,Npix\n0,7\n"
    store.files["sky/dataset/Norder=0/Dir=0/Npix=7.parquet"] = path.read_bytes()
    assert len(hats.remote_files(store.url("sky/"))) == 1
    assert store.asked.count("GET sky/dataset/Norder=0/Dir=0/Npix=7.parquet") == 2


def test_a_hats_catalogue_of_elsewhere_is_tried_and_loaded(lab: Lab, write: Writer, store: Store) -> None:
    root = hats_catalogue(write.directory / "sky")
    list_pixels(root)
    served(store, root, "sky")
    tables = f"""
    - {{name: Star, kind: director, key: id, longitude: ra, latitude: decl, files: ['{store.s3("sky/")}'],
       columns: {{_healpix_29: {{omit: true}}}}}}
    - {{name: Copy, kind: replicated, files: ['{store.url("sky/")}?sign=geheim']}}
    """
    catalog = write("hatsurl", tables)
    tried = lab.command("ingest", "validate", str(catalog), "--json")
    assert tried.exit_code == 0, tried.output
    assert [(table["rows"], table["files"]) for table in json.loads(tried.output)] == [(100, 4)] * 2
    lab.publish(catalog)
    for table in ("Star", "Copy"):
        assert lab.ask(f"SELECT COUNT(*), SUM(id) FROM hatsurl.{table}") == [("100", "4950")]
    again = lab.ingest(catalog, "--append")
    assert again.exit_code == 1
    assert "Npix=0.parquet: table 'hatsurl.Star' has its rows already" in again.output
    assert "geheim" not in again.output + lab.command("ingest", "status", "hatsurl").output
    lab.drop("hatsurl")
