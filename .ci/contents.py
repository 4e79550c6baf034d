"""Checks what is in a folder's wheel and sdist, and that the README's links lead somewhere on a package index.

python .ci/contents.py FOLDER
"""

import pathlib
import re
import sys
import tarfile
import zipfile

PACKAGE = "keras_shapley"
# in the sdist beside the package
BESIDE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}


def main(folder: pathlib.Path) -> None:
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata,) = (archive.read(name).decode() for name in in_wheel if name.endswith(".dist-info/METADATA"))
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    source = {str(path) for path in pathlib.Path(PACKAGE).rglob("*") if path.suffix == ".py" or path.name == "py.typed"}

    found = {name for name in in_wheel if not re.match(rf"{PACKAGE}-[^/]+\.dist-info/", name)}
    assert found == source, f"the wheel has other files than the package: {found ^ source}"
    licences = {name for name in in_wheel if re.search(r"\.dist-info/(licenses/)?LICENSE$", name)}
    assert licences, "the wheel has no LICENSE"
    rest = {name for name in in_sdist - source if not name.startswith(f"{PACKAGE}.egg-info/")}
    assert source <= in_sdist and rest == BESIDE, f"the sdist has other files than expected: {rest ^ BESIDE}"

    readme = metadata.partition("\n\n")[2]
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    relative = [link for link in links if not re.match(r"https://|#", link)]
    assert len(links) > 10 and not relative, f"relative links in the README: {relative}"
    pictures = re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", readme)
    assert pictures and all("/raw/" in link or "/blob/" not in link for link in pictures), pictures
    print(f"{len(in_wheel)} files in the wheel, {len(in_sdist)} in the sdist, {len(links)} links in the README")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
