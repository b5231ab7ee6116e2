"""Signatures by minisign itself: those of the key are taken, everything else is refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.signature import require_signature
from mobiletl.device.commands.table import main
from mobiletl.device.errors import Untrusted, UsageError
from runtime_tests.support.board.tiny_bundle import write_manifest, write_tiny_bundle

pytest.importorskip("cryptography")
MINISIGN = shutil.which("minisign")

# Made by minisign 0.11; of the bytes MESSAGE, with the comment below.
MESSAGE = b"hello\n"
PUBLIC = """\
untrusted comment: minisign public key A9F3EE2827D05063
RWRjUNAnKO7zqXIePendvNdUA51MuNHlkElNpw/atwvYDtTy90KCKSkC
"""
SIGNED = """\
untrusted comment: signature from minisign secret key
RURjUNAnKO7zqfxi0630OhIgfEsxYLENtxAOX8KHZYSzN4YbvbHVkoD5eZNR/CKlAnw1QGkt6oC3/f81G4zhKfCsv9ob0ukBNAQ=
trusted comment: trusted words
R4WrirWZlePXPLL7jCDo4Lp3bNxiWSd/AXzyIDwNJgfYcmYrhmVSGfHvlOy3I5i7HX/GSEV30kzlFXmb7ym3DQ==
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "maker.pub").write_text(PUBLIC)
    return tmp_path / "maker.pub"


def check(folder: Path, key: Path, signature: str = SIGNED, content: bytes = MESSAGE) -> None:
    (folder / "m.json.minisig").write_text(signature)
    require_signature(folder / "m.json", content, key)


def test_a_signature_by_minisign_is_taken(tmp_path: Path, key: Path) -> None:
    check(tmp_path, key)


def test_another_content_is_refused(tmp_path: Path, key: Path) -> None:
    with pytest.raises(Untrusted, match="does not fit the file beside it"):
        check(tmp_path, key, content=MESSAGE + b" ")


def test_another_comment_is_refused(tmp_path: Path, key: Path) -> None:
    with pytest.raises(Untrusted, match="does not fit"):
        check(tmp_path, key, SIGNED.replace("trusted words", "trusted wordz"))


def test_every_changed_byte_of_a_signature_is_refused(tmp_path: Path, key: Path) -> None:
    lines = SIGNED.splitlines()
    for row in (1, 3):
        sound = base64.b64decode(lines[row])
        for place in range(0, len(sound), 5):
            odd = bytearray(sound)
            odd[place] ^= 4
            changed = [*lines[:row], base64.b64encode(odd).decode(), *lines[row + 1 :]]
            with pytest.raises(Untrusted):
                check(tmp_path, key, "\n".join(changed))


@pytest.mark.parametrize("text", ["", "x", "\n" * 9, SIGNED[:80], SIGNED.replace("=", "\x00")])
def test_what_is_no_signature_is_refused(tmp_path: Path, key: Path, text: str) -> None:
    with pytest.raises(Untrusted):
        check(tmp_path, key, text)


def test_no_signature_says_how_to_make_one(tmp_path: Path, key: Path) -> None:
    with pytest.raises(Untrusted, match=r"minisign -S -m m\.json"):
        require_signature(tmp_path / "m.json", MESSAGE, key)


@pytest.mark.parametrize("text", ["", "RWQ=", SIGNED, "\x1b[2J"])
def test_what_is_no_key_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.pub").write_text(text)
    with pytest.raises(UsageError, match="holds no public key"):
        check(tmp_path, tmp_path / "odd.pub")


@pytest.mark.skipif(MINISIGN is None, reason="no minisign here (apt install minisign)")
@pytest.mark.parametrize("how", [[], ["-l"]], ids=["hashed", "whole"])
def test_a_bundle_is_opened_for_the_key_that_signed_it(
    tmp_path: Path, key: Path, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", graphs=False)
    manifest, own = bundle / "manifest.json", tmp_path / "own.pub"
    secret = tmp_path / "own.key"
    make = ["-G", "-W", "-p", own, "-s", secret]
    sign = ["-S", "-W", *how, "-s", secret, "-m", manifest]
    for words in (make, sign):
        subprocess.run([str(MINISIGN), *map(str, words)], check=True, capture_output=True)
    assert open_bundle(bundle, require_signature=own).trusted
    with pytest.raises(Untrusted, match="another key"):
        open_bundle(bundle, require_signature=key)
    words = ["inspect", "--bundle", str(bundle), "--require-signature"]
    assert main([*words, str(own)]) == 0
    document = json.loads(manifest.read_text())
    write_manifest(bundle, {**document, "created_by": "somebody else"})
    assert main([*words, str(own)]) == 15
    assert "does not fit the file beside it" in capsys.readouterr().err
