"""What lies in a folder of wheels, as a CycloneDX 1.6 document.

Names, versions, licences, hashes, and who requires whom. Everything is read from the wheels
themselves (core metadata, PEP 566 and 639); nothing is installed and no index is asked.
"""

from __future__ import annotations

import email
import email.message
import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

# Of licences whose metadata has only a classifier, which is no name that SPDX knows.
CLASSIFIED = "License :: OSI Approved :: "
# A whole licence pasted into the field is no name.
LONGEST_NAME = 100


def write_bill(wheels: Sequence[Path], root: str, python: str, path: Path) -> None:
    """Write the bill of `wheels` for boards with `python`; `root` is the file of the program."""
    metadata = {wheel.name: _metadata(wheel) for wheel in wheels}
    components = {wheel.name: _component(wheel, metadata[wheel.name]) for wheel in wheels}
    by_name = {canonicalize_name(component.name): component for component in components.values()}
    bom = Bom(components=[each for name, each in components.items() if name != root])
    bom.metadata.component = components[root]
    for name, component in components.items():
        needed = _required(metadata[name], python, everything=name == root)
        bom.register_dependency(component, [by_name[each] for each in needed if each in by_name])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    path.write_text(text + "\n", "utf-8")


def _metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [
            name
            for name in archive.namelist()
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        ]
        return email.message_from_bytes(archive.read(name))


def _component(wheel: Path, metadata: email.message.Message) -> Component:
    name, version = str(metadata["Name"]), str(metadata["Version"])
    url = PackageURL("pypi", name=canonicalize_name(name), version=version)
    homepage = metadata["Home-page"] or _project_url(metadata.get_all("Project-URL") or ())
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        description=metadata["Summary"],
        licenses=_licenses(metadata),
        hashes=[
            HashType(
                alg=HashAlgorithm.SHA_256, content=hashlib.sha256(wheel.read_bytes()).hexdigest()
            )
        ],
        external_references=[
            ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(homepage))
        ]
        if homepage
        else (),
    )


def _project_url(entries: Iterable[str]) -> str:
    """Return the first of `Label, URL` lines that names where a project lives."""
    urls = dict(entry.split(", ", 1) for entry in entries if ", " in entry)
    for label in ("Homepage", "homepage", "Home", "Source", "Repository", "repository"):
        if label in urls:
            return urls[label]
    return next(iter(urls.values()), "")


def _licenses(metadata: email.message.Message) -> list[License]:
    """Return what the package declares: an SPDX expression, else the field, else classifiers."""
    make, declared = LicenseFactory(), LicenseAcknowledgement.DECLARED
    expression, field = metadata["License-Expression"], (metadata["License"] or "").strip()
    if expression:
        return [make.make_from_string(expression, license_acknowledgement=declared)]
    if field and "\n" not in field and len(field) <= LONGEST_NAME:
        return [make.make_from_string(field, license_acknowledgement=declared)]
    names = [
        line[len(CLASSIFIED) :]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith(CLASSIFIED)
    ]
    return [make.make_with_name(name, acknowledgement=declared) for name in names]


def _required(
    metadata: email.message.Message, python: str, everything: bool
) -> list[NormalizedName]:
    """Return names that a package asks for on the board; `everything` includes its extras."""
    board = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "aarch64",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    extras = ["", *(metadata.get_all("Provides-Extra") or () if everything else ())]
    found: dict[NormalizedName, None] = {}
    for line in metadata.get_all("Requires-Dist") or ():
        asked = Requirement(line)
        if asked.marker is None or any(
            asked.marker.evaluate({**board, "extra": extra}) for extra in extras
        ):
            found[canonicalize_name(asked.name)] = None
    return list(found)
