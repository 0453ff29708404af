"""Unpacks one wheel from the package index: python3 scripts/fetch-wheel.py NAME VERSION FOLDER

For tools and libraries that a bare machine lacks (no pip, no curl). FOLDER becomes what a virtual
environment with that wheel alone would be: bin/ and lib/python3/site-packages/. The digest is
pinned in scripts/wheels.txt; the index is pip's own (PIP_INDEX_URL, pip.conf), else the public one.
"""

import configparser
import hashlib
import json
import os
import re
import shutil
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from html.parser import HTMLParser
from pathlib import Path

PUBLIC_INDEX = "https://pypi.org/simple"
TRIES = 3


class Links(HTMLParser):
    """The files of an index page in the older form: a list of links."""

    def __init__(self):
        super().__init__()
        self.files = []

    def handle_starttag(self, tag, attributes):
        href = dict(attributes).get("href")
        if tag == "a" and href:
            url = urllib.parse.urldefrag(href).url
            name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
            self.files.append({"filename": name, "url": url})


def pinned(name, version):
    for line in Path(__file__).with_name("wheels.txt").read_text().splitlines():
        filename, _, digest = line.partition(" ")
        if filename.startswith(f"{name}-{version}-"):
            return filename, digest.strip()
    sys.exit(f"error: scripts/wheels.txt has no {name} {version}")


def index_url():
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    config = configparser.RawConfigParser()
    home = Path.home()
    paths = ["/etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    config.read([*paths, os.environ.get("PIP_CONFIG_FILE", "")])
    return config.get("global", "index-url", fallback=PUBLIC_INDEX)


def get(url, accept="*/*"):
    # SSL_CERT_FILE is honoured by OpenSSL itself; pip's own setting goes before it.
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    headers = {"Accept": accept, "User-Agent": "dure-fetch-wheel"}
    parts = urllib.parse.urlsplit(url)
    if parts.username:
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        host = parts.netloc.rpartition("@")[2]
        url = parts._replace(netloc=host).geturl()
        user = urllib.parse.unquote(parts.username)
        secret = urllib.parse.unquote(parts.password or "")
        manager.add_password(None, url, user, secret, is_authenticated=True)
        extra = [urllib.request.HTTPBasicAuthHandler(manager)]
    else:
        extra = []
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), *extra)
    for attempt in range(1, TRIES + 1):
        try:
            with opener.open(urllib.request.Request(url, headers=headers), timeout=60) as answer:
                return answer.geturl(), answer.headers.get_content_type(), answer.read()
        except (OSError, urllib.error.URLError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == TRIES:
                sys.exit(f"error: {parts.hostname} cannot be read: {error}")
            time.sleep(attempt)


def find(name, filename):
    page = f"{index_url().rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    base, kind, body = get(page, "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1")
    if kind.endswith("json"):
        files = json.loads(body)["files"]
    else:
        links = Links()
        links.feed(body.decode())
        files = links.files
    for file in files:
        if file["filename"] == filename:
            return urllib.parse.urljoin(base, file["url"])
    sys.exit(f"error: the package index has no {filename}")


def place(member):
    """Where a wheel's member goes in the environment; None where it is not needed."""
    top, _, rest = member.partition("/")
    if top.endswith(".data"):
        kind, _, rest = rest.partition("/")
        if kind == "scripts":
            return f"bin/{rest}"
        if kind not in ("purelib", "platlib"):
            return None
        member = rest
    return f"lib/python3/site-packages/{member}"


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = place(member.filename)
            if member.is_dir() or target is None:
                continue
            path = folder / target
            if ".." in path.parts:
                sys.exit(f"error: {member.filename} leaves its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as out:
                shutil.copyfileobj(source, out)
            path.chmod(0o755 if target.startswith("bin/") else 0o644)


def main():
    name, version, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if folder.is_dir():
        return
    filename, digest = pinned(name, version)
    _, _, body = get(find(name, filename))
    if hashlib.sha256(body).hexdigest() != digest:
        sys.exit(f"error: {filename} is not what scripts/wheels.txt pins")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        wheel = Path(work, "wheel")
        wheel.write_bytes(body)
        unpack(wheel, Path(work, "made"))
        try:
            Path(work, "made").rename(folder)
        except OSError:
            # Another run was faster; what it made is the same.
            if not folder.is_dir():
                raise


if __name__ == "__main__":
    main()
