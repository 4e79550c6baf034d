"""What the site shows of the repository outside `docs/`: result tables, pictures, notebooks, and code.

A page links to such a file by its relative path, as it is read in the repository. The site has a copy of the file at
the same path from the root; code becomes a page that shows it. Formulas become MathML, which browsers typeset without a
script, and a picture links to itself in its full size.
"""

import base64
import functools
import html
import itertools
import pathlib
import re
from collections.abc import Iterator

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")
# in a page of HTML: what is shown as it is, and formulas elsewhere, of notebooks and of pages of Markdown
_VERBATIM = re.compile(r'(<(pre|code|script|style)\b.*?</\2>|<div class="clipboard-copy-txt".*?</div>)', re.DOTALL)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$])\$([^$<>]+?)\$|\\\((.+?)\\\)")
# which the plugin puts into notebooks, from elsewhere
_MATHJAX = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.DOTALL)
_PICTURE = re.compile(r'<img [^>]*src="([^":]+\.(?:png|gif))"[^>]*>')
_DATA_PICTURE = re.compile(r'<img ([^>]*)src="data:image/(png|gif);base64,([^"]+)"([^>]*)>')
# of a cell of a notebook: not to be found by a search
_CELL_EXTRAS = re.compile(r'<(?:div class="jp-(?:In|Out)putPrompt|span class="notice"|a class="anchor-link")')
_NO_TEXT = "No description has been provided for this image"
_BEHIND = ("reproduce/", "keras_shapley/", "tests/")
_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "reproduce/README.md", "tests/README.md")


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
    """Points relative links to the site's copies; searches find guides before tables of results and code."""
    if page.file.src_uri.startswith(_BEHIND):
        page.meta["search"] = {"boost": 0.2}
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

    if page.file.src_uri.startswith("reproduce/results/"):
        markdown = markdown.replace("\n", "\n\n[All results](../../docs/results.md)\n", 1)
        # the tables take the width of the contents
        page.meta["hide"] = ["toc"]
    return _LINK.sub(rewritten, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Typesets formulas, links pictures, and points links of notebooks, which are HTML already, to the site's pages."""
    content = typeset(_MATHJAX.sub("", content))
    if not page.file.src_uri.endswith(".ipynb"):
        return _linked(content)
    content = _CELL_EXTRAS.sub(lambda match: match[0].replace(" ", " data-search-exclude ", 1), content)
    content = _linked(_with_files(content, pathlib.Path(page.file.abs_dest_path).parent))

    def rewritten(match: re.Match[str]) -> str:
        file = files.get_file_from_path(match[1].removeprefix("docs/"))
        return match[0] if file is None else f'href="{file.url_relative_to(page.file)}"'

    return re.sub(r'href="\.\./([^"#]+)"', rewritten, content)


def _linked(content: str) -> str:
    """HTML whose pictures link to themselves."""
    return _PICTURE.sub(r'<a href="\1">\g<0></a>', content)


def _with_files(content: str, folder: pathlib.Path) -> str:
    """HTML of a notebook with its pictures in files of a folder: browsers do not open what a page contains."""
    numbers = itertools.count(1)
    folder.mkdir(parents=True, exist_ok=True)

    def in_file(match: re.Match[str]) -> str:
        before, kind, data, after = match.groups()
        name = f"picture_{next(numbers)}.{kind}"
        (folder / name).write_bytes(base64.b64decode(data))
        return f'<img {before}src="{name}"{after}>'.replace(_NO_TEXT, "What the code above draws")

    return _DATA_PICTURE.sub(in_file, content)


def typeset(content: str) -> str:
    """HTML with MathML in the place of TeX between dollars or brackets, outside of code."""
    pieces = _VERBATIM.split(content)
    # each match leaves itself and the name of its element
    texts, verbatim = pieces[::3], [*pieces[1::3], ""]
    for pattern, display in ((_DISPLAYED, "block"), (_INLINE, "inline")):
        replaced = functools.partial(_mathml, display=display)
        texts = [pattern.sub(replaced, text) for text in texts]
    return "".join(part for both in zip(texts, verbatim) for part in both)


def _mathml(match: re.Match[str], *, display: str) -> str:
    tex = html.unescape(next(filter(None, match.groups())))
    # the converter puts the number of an equation right behind it
    return convert(tex.replace(r"\tag", r"\qquad\tag"), display=display)


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
