"""What the site shows of the repository outside `docs/`: result tables, pictures, notebooks, and code.

A page links to such a file by its relative path, as it is read in the repository. The site has a copy of the file at
the same path from the root; code becomes a page that shows it.
"""

import pathlib
import re
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")
_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "reproduce/README.md")


# before the plugin that makes pages of notebooks
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files from outside."""
    for path in _outside():
        if path.suffix == ".py":
            files.append(File.generated(config, f"{_uri(path)}.md", content=_listing(path)))
        else:
            files.append(File(_uri(path), str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points relative links to the site's copies."""
    own = files.get_file_from_path(page.file.src_uri)
    folder = pathlib.Path(own.abs_src_path).parent if own and own.abs_src_path else ROOT / "docs"

    def rewritten(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return match[0]
        docs = ROOT / "docs"
        uri = target.relative_to(docs).as_posix() if target.is_relative_to(docs) else _uri(target)
        uri += ".md" if target.suffix == ".py" else ""
        if files.get_file_from_path(uri) is None:
            # such as the licence: named, not linked
            return match[0]
        depth = page.file.src_uri.count("/")
        return f"{match[1]}{'../' * depth}{uri}{match[3]}"

    return _LINK.sub(rewritten, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links of notebooks, which are pages of HTML already, to the site's pages."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def rewritten(match: re.Match[str]) -> str:
        file = files.get_file_from_path(match[1].removeprefix("docs/"))
        return match[0] if file is None else f'href="{file.url_relative_to(page.file)}"'

    return re.sub(r'href="\.\./([^"#]+)"', rewritten, html)


def _outside() -> Iterator[pathlib.Path]:
    yield from (ROOT / page for page in _PAGES)
    for pattern in ("notebooks/*.ipynb", "reproduce/results/*.md", "reproduce/results/*.png"):
        yield from sorted(ROOT.glob(pattern))
    linked = set()
    for page in (*ROOT.glob("docs/**/*.md"), *(ROOT / page for page in _PAGES)):
        targets = (page.parent / target for _, target, _ in _LINK.findall(page.read_text()))
        linked |= {path.resolve() for path in targets if path.suffix == ".py" and path.is_file()}
    yield from sorted(linked)


def _uri(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _listing(path: pathlib.Path) -> str:
    return f"# {_uri(path)}\n\n````python\n{path.read_text()}````\n"
