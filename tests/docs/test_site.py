"""The built site: links lead somewhere, nothing comes from elsewhere, and a browser shows it well."""

import functools
import http.server
import posixpath
import re
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pages
import pytest

KINDS = {
    "home": "",
    "guide": "guides/deploy/",
    "tutorial": "tutorials/1-first-network/",
    "equations": "explanation/method/",
    "zoo": "zoo/",
    "benchmarks": "benchmarks/",
    "reference": "reference/layers/",
    "list": "changelog/",
}


class Page(HTMLParser):
    """Reads a page: its anchors, where its links lead, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "link":
            self.loaded.append(attributes["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.loaded += [attributes["src"]] if attributes.get("src") else []


def read(site):
    return {
        path.relative_to(site).as_posix(): Page(path.read_text("utf-8"))
        for path in site.rglob("*.html")
    }


def target(page, link):
    """The file of the site that a link of a page means, and the anchor in it."""
    address, anchor = urldefrag(link)
    if not address:
        return page, unquote(anchor)
    path = posixpath.normpath(posixpath.join("/", posixpath.dirname(page), unquote(address)))[1:]
    if address.endswith((".", "/")):
        path = posixpath.join(path, "index.html")
    return path, unquote(anchor)


def is_inside(link):
    parts = urlsplit(link)
    return not parts.scheme and not parts.netloc


def broken_links(site):
    """The links between pages that lead to no file or no anchor, and the number of all."""
    found = read(site)
    broken, count = [], 0
    for name, page in found.items():
        for link in filter(is_inside, page.links):
            count += 1
            path, anchor = target(name, link)
            if path in found:
                missing = anchor and anchor not in found[path].anchors | {"__top"}
            else:
                missing = not (site / path).is_file()
            # The page for what is not found does not know where it will be shown.
            if missing and name != "404.html":
                broken.append(f"{name}: {link}")
    return broken, count


def broken_loads(site):
    """What pages and style sheets load from elsewhere or in vain, and the number of all loads."""
    loads = [(name, link) for name, page in read(site).items() for link in page.loaded]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text("utf-8")
        links = re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
        links += re.findall(r"@import\s+['\"]([^'\"]+)", text)
        name = sheet.relative_to(site).as_posix()
        loads += [(name, link) for link in links if not link.startswith("data:")]
    broken = [
        f"{name}: {link}"
        for name, link in loads
        if not is_inside(link)
        or (name != "404.html" and not (site / target(name, link)[0]).is_file())
    ]
    return broken, len(loads)


def test_each_link_leads_to_a_page_and_an_anchor_of_the_site(site):
    broken, count = broken_links(site)
    assert broken == []
    assert count > 1000


def test_a_page_loads_nothing_from_elsewhere(site):
    broken, count = broken_loads(site)
    assert broken == []
    assert count > 100


def test_what_is_broken_is_found(tmp_path):
    (tmp_path / "index.html").write_text(
        "<a href='a/'>1</a> <a href='a/#here'>2</a> <a href='a/#gone'>3</a> <a href='b/'>4</a>"
        "<a href='#here'>5</a> <a href='https://c.d/e'>6</a> <a href='s.css'>7</a>"
        "<link href='s.css'><script src='https://c.d/e.js'></script><img src='gone.png'>"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text(
        "<p id='here'><a href='..'>1</a><a href='../c'>2</a>"
    )
    (tmp_path / "s.css").write_text("@import 'https://c.d/f.css'; p {background: url(gone.svg)}")
    broken, count = broken_links(tmp_path)
    assert sorted(broken) == [
        "a/index.html: ../c",
        "index.html: #here",
        "index.html: a/#gone",
        "index.html: b/",
    ]
    assert count == 8
    broken, count = broken_loads(tmp_path)
    assert sorted(broken) == [
        "index.html: gone.png",
        "index.html: https://c.d/e.js",
        "s.css: gone.svg",
        "s.css: https://c.d/f.css",
    ]
    assert count == 5


def test_links_of_pages_that_are_read_in_the_repository_lead_to_its_files():
    for page in ("README.md", "CONTRIBUTING.md", "zoo/evidence/README.md", "zoo/results/README.md"):
        folder = (pages.ROOT / page).parent
        text = (pages.ROOT / page).read_text("utf-8")
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        missing = [
            link for link in links if link and is_inside(link) and not (folder / link).exists()
        ]
        assert missing == [], page


@pytest.fixture(scope="module")
def address(site):
    """Where a server on this machine shows the site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def watched(browser, address):
    """Opens pages and keeps what goes wrong: errors in the console, failed and foreign requests."""
    context = browser.new_context()
    context.set_default_timeout(60_000)
    page, wrong = context.new_page(), []

    def request(route):
        if not route.request.url.startswith((address, "data:", "blob:")):
            wrong.append(f"request of {route.request.url}")
            route.abort()
        else:
            route.continue_()

    page.route("**/*", request)
    page.on(
        "console",
        lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def request_failed(failed):
        # The browser gives up what it still waits for, such as the icon, when it leaves a page.
        if failed.failure != "net::ERR_ABORTED":
            wrong.append(f"no answer for {failed.url}")

    page.on("requestfailed", request_failed)
    page.on(
        "response",
        lambda answer: (
            wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    yield page, wrong
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_shown_at_every_width(kind, watched, address):
    page, wrong = watched
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(address + KINDS[kind], wait_until="networkidle")
        assert page.locator("h1").first.is_visible()
        # What is wider than the window must scroll by itself.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []


def test_equations_are_set(watched, address):
    page, wrong = watched
    page.goto(address + KINDS["equations"], wait_until="networkidle")
    places = page.locator(".arithmatex").count()
    assert places > 5
    assert page.locator(".arithmatex .katex").count() == places
    assert page.locator(".katex-error").count() == 0
    assert wrong == []


def test_the_search_finds_a_page(watched, address):
    page, wrong = watched
    page.goto(address, wait_until="networkidle")
    # Key by key, as a reader does: the theme waits for keys, not for a changed value.
    page.locator(".md-search__input").press_sequentially("greedy_coverage")
    found = page.locator(".md-search-result__link[href*='reference/selections']").first
    found.wait_for(state="visible")
    assert wrong == []
