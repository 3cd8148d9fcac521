"""What the site does beyond MkDocs: equations become MathML, linked files of the repository become pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import unescape

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
OUTSIDE = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)\)")
FOREIGN = re.compile(r'<script src="https://unpkg.com/[^"]*"></script>')
SEARCH = """if (location.protocol === "file:") {
  const text = new Blob([SOURCE], { type: "text/javascript" });
  window.Worker = class extends Worker {
    constructor() {
      super(URL.createObjectURL(text));
    }
  };
}
"""


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for each file outside docs/ that a page links to."""
    for page in [file for file in files if file.is_documentation_page()]:
        for link in OUTSIDE.findall(page.content_string):
            source = _outside(page.src_uri, link)
            if source and (ROOT / source).is_file() and _shown(source) not in files.src_uris:
                files.append(File.generated(config, _shown(source), content=_page(source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Points links that leave docs/ to the pages of what they name, and colours commands as such."""

    def pointed(match: re.Match[str]) -> str:
        source = _outside(page.file.src_uri, match[1])
        if source is None or _shown(source) not in files.src_uris:
            return match[0]  # MkDocs says what is wrong with it
        return f"]({posixpath.relpath(_shown(source), posixpath.dirname(page.file.src_uri) or '.')})"

    return OUTSIDE.sub(pointed, markdown).replace("\n```console\n", "\n```bash\n")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Equations as MathML, which browsers draw by themselves."""

    def drawn(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(unescape(match[3]).strip(), display=display)

    return EQUATION.sub(drawn, html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Puts `_search.js` in the place of the one script that `offline` would fetch from a network."""
    return FOREIGN.sub(f'<script src="{"../" * page.url.count("/")}_search.js"></script>', output)


def on_post_template(output: str, template_name: str, config: Any) -> str:
    return FOREIGN.sub("", output)


def on_post_build(config: Any) -> None:
    """Lets the search work from a folder, where browsers start no worker but from a text at hand."""
    site = Path(config.site_dir)
    (worker,) = site.glob("assets/javascripts/workers/search.*.min.js")
    source = json.dumps(worker.read_text(encoding="utf-8"))
    (site / "_search.js").write_text(SEARCH.replace("SOURCE", source), encoding="utf-8")


def _outside(page: str, link: str) -> str | None:
    """The path in the repository that a link of a page leads to, where that is not in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return None if path.startswith(("docs/", "..")) else path


def _page(source: str) -> str:
    text = (ROOT / source).read_text(encoding="utf-8")
    if not source.endswith(".md"):
        return f"# {source}\n\n````{Path(source).suffix[1:]}\n{text}````\n"
    up = "../" * (_shown(source).count("/"))
    return re.sub(r"\]\((?:\.\./)+docs/", f"]({up}", text)


def _shown(source: str) -> str:
    """Where a file of the repository stands in the site."""
    return f"source/{source}" if source.endswith(".md") else f"source/{source}.md"
